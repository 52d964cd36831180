"""Where control listens, and how a client finds it."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tumpline.drivers.directories import runtime_dir
from tumpline.errors import StateError

__all__ = ["listen", "reachable", "runtime_dir"]

# sun_path has room for 107 octets and the end (unix(7)); longer paths go through a file descriptor of their directory.
_MAX_PATH_OCTETS = 107
BACKLOG = 128


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """The path, or a short one that leads to the same socket while the block lasts."""
    if len(os.fsencode(path)) <= _MAX_PATH_OCTETS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen(path: Path) -> socket.socket:
    """A listening socket for this user alone (0600 in a 0700 directory). A socket file that nobody answers at is
    replaced. Raises: StateError."""
    try:
        _private_directory(path.parent)
        if _answers(path):
            raise StateError(f"another agent answers on {path}: stop it (`tumpline down --node {path}`)")
        path.unlink(missing_ok=True)
        return _bind(path)
    except OSError as error:
        raise StateError(f"control cannot listen on {path}: {error.strerror}") from error


def _private_directory(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.getuid():
        raise StateError(f"{directory} belongs to another user: control would not be private there")
    if stat.S_IMODE(found.st_mode) & 0o077:
        directory.chmod(0o700)


def _answers(path: Path) -> bool:
    if not path.is_socket():
        if path.exists():
            raise StateError(f"{path} is in the way: it is no socket")
        return False
    with socket.socket(socket.AF_UNIX) as probe, reachable(path) as short:
        probe.settimeout(1.0)  # a full backlog answers too
        try:
            probe.connect(short)
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        # The directory is closed to others, so nobody connects between bind and chmod.
        with reachable(path) as short:
            listener.bind(short)
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
