"""Where a capture is written: a run of bounded files, or a pipe that somebody reads while it grows.

A file that is full gets a number, the oldest of this run are removed, and whatever was there before it stays. Each begins with
the head of the capture, so that each can be read alone. Every write is whole blocks: a reader beside us never sees half of one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from tumpline.errors import ConfigError

FILE_OCTETS_MOST: Final = 100 << 20  # Wireshark opens so much in seconds
FILES_MOST: Final = 10
PIPE_OCTETS_MOST: Final = 4 << 20  # held for a reader that is slower than the traffic

Head = Callable[[], bytes]  # what each file, or each reader of a pipe, gets first


class Bounds(NamedTuple):
    """Of a run of files; the newest counts."""

    file_octets_most: int = FILE_OCTETS_MOST
    files_most: int = FILES_MOST


class CaptureTarget(Protocol):
    """Takes whole blocks."""

    def write(self, blocks: bytes) -> bool:
        """False: they are lost (disk full, nobody reads)."""

    def close(self) -> None:
        """Idempotent."""


def open_capture(path: Path, head: Head, bounds: Bounds) -> CaptureTarget:
    """A pipe if there is one at `path`, else files. Raises: ConfigError."""
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):
            return CapturePipe(path, head)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise _cannot_write(path, error) from None
    return CaptureFiles(path, head, bounds)


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"captures cannot be written to {path}: {error.strerror}; name a file in a directory of yours")


class CaptureFiles:
    """`path` is the newest; older ones are called NAME.1.pcapng, NAME.2.pcapng ... in the order in which they became full."""

    def __init__(self, path: Path, head: Head, bounds: Bounds) -> None:
        self._path = path
        self._head = head
        self._bounds = bounds
        self._ours: deque[Path] = deque()
        self._number = self._last_number()
        self._fd = -1
        self._octets = 0
        try:
            if path.exists():
                os.rename(path, self._next_name())  # of an earlier run: it stays
            self._begin()
        except OSError as error:
            raise _cannot_write(path, error) from None

    def _last_number(self) -> int:
        stem, suffix = self._path.stem, self._path.suffix
        middles = [
            each.name[len(stem) + 1 : -len(suffix) or None] for each in self._path.parent.glob(f"{stem}.*{suffix}")
        ]
        return max((int(middle) for middle in middles if middle.isdecimal()), default=0)

    def _next_name(self) -> Path:
        self._number += 1
        return self._path.with_name(f"{self._path.stem}.{self._number}{self._path.suffix}")

    def _begin(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        head = self._head()
        if os.write(fd, head) < len(head):
            os.close(fd)
            self._path.unlink()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fd, self._octets = fd, len(head)

    def write(self, blocks: bytes) -> bool:
        """See CaptureTarget."""
        try:
            if self._fd < 0:  # there was no room for another file
                self._begin()
            elif self._octets + len(blocks) > self._bounds.file_octets_most:
                self._rotate()
            return self._append(blocks)
        except OSError:
            return False

    def _append(self, blocks: bytes) -> bool:
        written = os.write(self._fd, blocks)
        if written < len(blocks):  # the disk is full: what follows half a block could not be read
            os.ftruncate(self._fd, self._octets)
            os.lseek(self._fd, self._octets, os.SEEK_SET)
            return False
        self._octets += written
        return True

    def _rotate(self) -> None:
        self.close()
        full = self._next_name()
        os.rename(self._path, full)
        self._ours.append(full)
        while len(self._ours) >= self._bounds.files_most:
            self._ours.popleft().unlink(missing_ok=True)
        self._begin()

    def close(self) -> None:
        """See CaptureTarget."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class CapturePipe:
    """Each reader gets a whole capture from when it came; while there is none, or it is too slow, packets are lost."""

    def __init__(self, path: Path, head: Head) -> None:
        self._path = path
        self._head = head
        self._fd = -1
        self._rest = bytearray()

    def write(self, blocks: bytes) -> bool:
        """See CaptureTarget."""
        if self._fd < 0 and not self._open():
            return False
        if len(self._rest) + len(blocks) > PIPE_OCTETS_MOST:
            self._flush()
            return False
        self._rest += blocks
        self._flush()
        return self._fd >= 0

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # ENXIO: nobody reads
            return False
        self._rest[:] = self._head()
        return True

    def _flush(self) -> None:
        try:
            while self._rest:
                del self._rest[: os.write(self._fd, self._rest)]
        except BlockingIOError:
            return
        except OSError:  # EPIPE: the reader has gone
            self.close()

    def close(self) -> None:
        """See CaptureTarget."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
            self._rest.clear()
