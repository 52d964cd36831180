"""Files that callers name and the agent opens, with its own rights: not for everybody, and said plainly if it fails."""

from __future__ import annotations

import os
import stat
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


async def require_own_user(call: Call, instead: str, policy: str = "own") -> None:
    """Only the agent's own user and root may name files, unless `policy` is "any". `instead`: what others do.
    Raises: BusError."""
    if policy == "any":
        return
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


def open_file(path: str) -> int:
    """A regular file to read from; the caller closes it. Raises: BusError."""
    with told(path):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # or a pipe would have us wait
    return _regular(file, path)


def take_file(call: Call, index: int) -> int:
    """An open regular file that came with the call; the caller closes it. Raises: BusError."""
    try:
        file = call.take_fd(index)
    except LookupError:
        text = f"file {index} did not come with the call: pass it as a UNIX file descriptor"
        raise BusError(ErrorName.INVALID_ARGS, text) from None
    return _regular(file, "the file that was passed")


def _regular(file: int, what: str) -> int:
    """Others are refused: a pipe at whose other end nobody is would hold a thread for ever."""
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise BusError(ErrorName.INVALID_ARGS, f"{what} is no regular file: name or pass one, or pass a memory file")
