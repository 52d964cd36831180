"""The place of a bus in the file system: its socket, and the lock by which the first taker wins."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import Final

from tumpline.drivers.dbus.errors import BusUnavailableError

PATH_OCTETS_MOST: Final = 107  # sun_path has room for these and the end (unix(7))
PRIVATE: Final = 0o600
SHARED: Final = 0o666  # others may connect; the bus looks at who they are
BACKLOG: Final = 128
TRIES_MOST: Final = 100  # of locking a file that others remove meanwhile


class PlaceTakenError(BusUnavailableError):
    """Somebody hosts a bus there already."""


class Place:
    """A path with a listening socket, held from `take` to `give_up` (or the end of the process)."""

    def __init__(self, path: Path, listener: socket.socket, lock: int) -> None:
        """For `take`."""
        self.path = path
        self.listener = listener
        self.is_given_up = False
        self._lock = lock

    @classmethod
    def take(cls, path: Path, *, is_shared: bool = False) -> Place:
        """Listen there. A socket that nobody answers at is replaced. Raises: PlaceTakenError, BusUnavailableError."""
        if len(os.fsencode(path)) > PATH_OCTETS_MOST or not path.is_absolute():
            raise BusUnavailableError(f"no bus can be hosted at {path}: write an absolute path of at most 107 octets")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _lock(path)
        except OSError as error:
            raise _cannot(path, error) from None
        try:
            return cls(path, _listen(path, SHARED if is_shared else PRIVATE), lock)
        except BaseException as error:
            _unlock(path, lock)
            if isinstance(error, OSError):
                raise _cannot(path, error) from None
            raise

    def give_up(self) -> None:
        """Close it; both files are gone. Idempotent."""
        if not self.is_given_up:
            self.is_given_up = True
            self.path.unlink(missing_ok=True)  # while the lock is held: nobody else has made one there
            self.listener.close()
            _unlock(self.path, self._lock)


def _cannot(path: Path, error: OSError) -> BusUnavailableError:
    return BusUnavailableError(f"no bus can be hosted at {path}: {os.strerror(error.errno or 0).lower()}")


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _lock(path: Path) -> int:
    """The descriptor that holds the lock. Raises: PlaceTakenError, OSError."""
    name = _lock_path(path)
    for _ in range(TRIES_MOST):
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, name):
                return fd
            os.close(fd)  # the one before removed its file on leaving: a lock on that keeps nobody out
        except OSError as error:
            os.close(fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise PlaceTakenError(f"somebody hosts a bus at {path} already") from None
    raise PlaceTakenError(f"others keep taking and leaving {path}")


def _is_at(fd: int, name: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(name))
    except FileNotFoundError:
        return False


def _unlock(path: Path, fd: int) -> None:
    _lock_path(path).unlink(missing_ok=True)
    os.close(fd)


def _listen(path: Path, mode: int) -> socket.socket:
    """Raises: PlaceTakenError, OSError."""
    if path.is_socket():
        if _answers(path):
            raise PlaceTakenError(f"somebody answers at {path} already")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The file comes with the socket's mode less the umask: nobody else connects between bind and chmod.
        os.fchmod(listener.fileno(), PRIVATE)
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)  # a full backlog answers too
    return True
