"""Whose calls may name files of this machine: the agent opens them with its own rights."""

from __future__ import annotations

import os
import stat
from typing import Final

from tumpline.drivers.dbus import BusError, Call

ACCESS_DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"
FAILED: Final = "org.freedesktop.DBus.Error.Failed"
INVALID_ARGS: Final = "org.freedesktop.DBus.Error.InvalidArgs"


async def require_own_user(call: Call, policy: str) -> None:
    """Only the agent's own user and root, unless policy is "any". Raises: BusError."""
    if policy == "any":
        return
    uid = await call.uid()
    if uid not in (0, os.getuid()):
        raise BusError(
            ACCESS_DENIED,
            f"user {uid} may not name files that user {os.getuid()} opens: pass the open file instead,"
            ' or have [bus] files = "any" in the configuration of the agent',
        )


def open_file(path: str) -> int:
    """A regular file to read from; the caller closes it. Raises: BusError."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # or a pipe would have us wait
    except (OSError, ValueError) as error:
        raise BusError(FAILED, f"{path}: {getattr(error, 'strerror', error)}") from error
    return _regular(file, path)


def take_file(call: Call, index: int) -> int:
    """An open regular file that came with the call; the caller closes it. Raises: BusError."""
    try:
        file = call.take_fd(index)
    except LookupError:
        raise BusError(
            INVALID_ARGS, f"file {index} did not come with the call: pass it as a UNIX file descriptor"
        ) from None
    return _regular(file, "the file that was passed")


def _regular(file: int, what: str) -> int:
    """Others are refused: a pipe at whose other end nobody is would hold a thread for ever."""
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise BusError(INVALID_ARGS, f"{what} is no regular file: name or pass one, or pass a memory file")
