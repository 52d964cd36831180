"""A node's state directory: its own, private, and held by one agent at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType

from tumpline.drivers.directories import make_directory
from tumpline.errors import StateError

LOCK = "lock"


class StateDir:
    """Everything one node keeps lies under `path`. Held from `hold` until `release` (or the end of the process)."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd: int | None = lock_fd

    @classmethod
    def hold(cls, path: Path, name: str = "NAME") -> StateDir:
        """Make the directory if it is not there, and take it. `name` is the agent's, for what to type.

        Raises: StateError: another agent holds it (with its pid), it cannot be made, read or written."""
        make_private(path)
        lock_fd = _open_lock(path / LOCK)
        try:
            # A lock of the open file, not of the process: a second agent within one process is refused as well, and the
            # kernel drops it with the last descriptor, however the process ends.
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock_fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StateError(f"the state directory {path} cannot be locked: {_words(error)}") from error
            raise StateError(
                f"the state directory {path} is held by the agent with pid {holder}; stop it with "
                f"`tumpline down --node {name}` or give this one its own state_dir"
            ) from error
        _write_pid(path, lock_fd)
        return cls(path, lock_fd)

    def directory(self, name: str) -> Path:
        """A directory of that name within, made (mode 0700) if it is not there. Raises: StateError."""
        return make_private(self.path / name)

    def release(self) -> None:
        """Let another agent have it. Idempotent."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> StateDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def make_private(path: Path) -> Path:
    """The directory `path`, made with mode 0700 (its parents too) if it is not there. Raises: StateError."""
    try:
        make_directory(path)
        if not path.is_dir():
            raise StateError(f"{path} is not a directory; remove it or choose another state_dir")
    except OSError as error:
        raise StateError(
            f"the state directory {path} cannot be made: {_words(error)}; choose another state_dir"
        ) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise StateError(f"{path} cannot be read and written; `chown -R $USER {path}` or choose another state_dir")
    return path


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(
            f"the state directory {path.parent} cannot be written: {_words(error)}; free it or choose another state_dir"
        ) from error


def _write_pid(path: Path, lock_fd: int) -> None:
    text = f"{os.getpid()}\n".encode()
    try:
        # In this order: over the last pid there is room on a full disk too.
        os.pwrite(lock_fd, text, 0)
        os.ftruncate(lock_fd, len(text))
    except OSError as error:
        os.close(lock_fd)
        raise StateError(
            f"the state directory {path} cannot be written: {_words(error)}; free some room or choose another state_dir"
        ) from error


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
