"""Files that callers name and the agent opens, with its own rights: not for everybody, and said plainly if it fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tumpline.drivers.dbus import BusError, Call, ErrorName

_FILE_EXISTS: Final = "org.freedesktop.DBus.Error.FileExists"
_NAMES: Final = (
    (FileNotFoundError, ErrorName.FILE_NOT_FOUND),
    (FileExistsError, _FILE_EXISTS),
    (PermissionError, ErrorName.ACCESS_DENIED),
)


async def require_own_user(call: Call, instead: str) -> None:
    """Only the agent's own user and root may name files. `instead`: what others do. Raises: BusError."""
    uid = await call.uid()
    if uid not in (0, os.getuid()):
        text = f"user {uid} may not name files that user {os.getuid()} opens: open the file yourself and use {instead}"
        raise BusError(ErrorName.ACCESS_DENIED, text)


@contextmanager
def told(path: str) -> Iterator[None]:
    """What is wrong with a file becomes an error that the caller understands. Raises: BusError."""
    try:
        yield
    except ValueError as error:  # a path with a NUL, which D-Bus does not carry, but who knows
        raise BusError(ErrorName.INVALID_ARGS, f"{path!r}: {error}") from error
    except OSError as error:
        name = next((name for kind, name in _NAMES if isinstance(error, kind)), ErrorName.FAILED)
        raise BusError(name, f"{path}: {error.strerror or error}") from error
