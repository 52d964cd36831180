"""Large payloads of stores: counted handles, and the buffer through which octets are written.

Two kinds of handle share one shape (FileHandle): memory (`_memory.py`) and a file of the payload directory of a durable
store. Handles are counted on the event loop's thread.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Protocol
from weakref import WeakValueDictionary

from tumpline.drivers.directories import sync_directory
from tumpline.errors import PayloadGoneError, StorageError
from tumpline.machines.contract import FileRange, Handle
from tumpline.wire.crc import crc32c

# Received octets are gathered in a page-aligned buffer of this size and leave it in whole pages. It stays within a
# second-level cache, and is four times the longest head, so that a head always lies in it in one piece.
BUFFER_OCTETS = 256 * 1024
# So many idle buffers are kept for the next transfers (4 MiB); more are given back to the system.
IDLE_BUFFERS_MAX = 16

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def storage_error(error: OSError, where: str) -> StorageError:
    """The error as its user reads it, with the remedy."""
    if error.errno in FULL:
        return disk_full(where)
    return StorageError(f"cannot write in {where}: {error.strerror or error}; see the system's log for the disk")


def disk_full(where: str) -> StorageError:
    """What is said when there is no room; nothing of the transaction or transfer was kept."""
    return StorageError(f"disk full: no room in {where}; free some, or move state_dir to a larger disk")


class PayloadHandle(Handle, Protocol):
    """A handle as this package makes it."""

    def keep(self, buffer: memoryview, used: int, buffers: Buffers) -> memoryview:
        """Append the first `used` octets of `buffer`: all of it but for the last time. Returns the buffer to go on with:
        this one, or another of `buffers` if the handle holds this one from now on. Raises: OSError."""


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """All of `data` at `offset`; a short write is gone on with. Raises: OSError."""
    while data:
        count = os.pwrite(fd, data, offset)
        offset += count
        data = data[count:]


class DiskHandle:
    """A file of the payload directory. It is unlinked when the store holds it no more and nobody reads it.

    A file is held while a committed bundle names it. Without readers its descriptor is closed: a million stored files
    need no descriptors.
    """

    __slots__ = ("__weakref__", "_directory", "_fd", "_readers", "_written", "held", "number", "synced")

    def __init__(self, directory: PayloadDirectory, number: int, fd: int) -> None:
        self._directory = directory
        self._fd = fd
        self.number = number
        self.held = self.synced = fd < 0
        self._readers = 0 if fd < 0 else 1
        self._written = 0

    @property
    def fd(self) -> int:
        """Raises: StorageError, PayloadGoneError."""
        if self._fd < 0:
            if not (self.held or self._readers):  # it may lie there for a moment longer
                raise StorageError("a payload was read after its last reader had released it")
            self._fd = self._directory.open(self.number)
        return self._fd

    def runs(self, offset: int, length: int) -> None:
        """It lies in a file."""

    def keep(self, buffer: memoryview, used: int, _buffers: Buffers) -> memoryview:
        write_at(self.fd, buffer[:used], self._written)
        self._written += used
        return buffer

    def retain(self) -> None:
        self._readers += 1

    def release(self) -> None:
        assert self._readers > 0, "release without retain"
        self._readers -= 1
        if not self._readers:
            self._unread()

    def stored(self) -> None:
        """A committed bundle names it: the store has taken the reference of whoever added the bundle."""
        self.held = True
        self.release()

    def removed(self) -> None:
        """No committed bundle names it any more."""
        self.held = False
        if not self._readers:
            self._unread()

    def _unread(self) -> None:
        self.__del__()
        if not self.held:
            self._directory.discard(self.number)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class PayloadDirectory:
    """Files named by number. `discard` is called with the number of a file that nothing needs any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.discard: Callable[[int], None] = self.unlink
        self._next = 1
        self._lock = Lock()  # loop and writer thread both make and look for handles
        self._handles: WeakValueDictionary[int, DiskHandle] = WeakValueDictionary()

    def place(self) -> Place:
        """Where new payloads go. Its buffers belong to one thread."""
        return Place(self.create, str(self.path), self.free_octets)

    def free_octets(self) -> int:
        """Room left on the disk for this user."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def recover(self, known: set[int]) -> None:
        """Remove the files that no bundle names. Raises: OSError."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        # Even if it was there: the run that made it may have ended before this. Synced files lie in it from now on.
        sync_directory(self.path.parent)
        for entry in os.scandir(self.path):
            if not entry.name.isdecimal() or int(entry.name) not in known:
                os.unlink(entry.path)
        self._next = max(known, default=0) + 1

    def create(self) -> DiskHandle:
        """A new empty file with one reader. Raises: StorageError."""
        with self._lock:
            number, self._next = self._next, self._next + 1
        try:
            fd = os.open(self.path / str(number), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, str(self.path)) from error
        handle = DiskHandle(self, number, fd)
        with self._lock:
            self._handles[number] = handle
        return handle

    def stored(self, number: int) -> DiskHandle:
        """The one handle of a file that a bundle names."""
        with self._lock:
            handle = self._handles.get(number)
            if handle is None:
                self._handles[number] = handle = DiskHandle(self, number, -1)
        return handle

    def removed(self, number: int) -> None:
        """No bundle names this file any more: unlink it, now or at the last release."""
        with self._lock:
            handle = self._handles.get(number)
        if handle is None:
            self.discard(number)
        else:
            handle.removed()

    def open(self, number: int) -> int:
        """A descriptor for reading. Raises: StorageError."""
        try:
            return os.open(self.path / str(number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise PayloadGoneError(
                f"payload file {self.path / str(number)} is gone; see the system's log for the disk"
            ) from error
        except OSError as error:
            raise StorageError(f"payload file {self.path / str(number)} cannot be read: {error.strerror}") from error

    def unlink(self, number: int) -> None:
        """Free the octets; one that is gone already is no error."""
        try:
            os.unlink(self.path / str(number))
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, str(self.path)) from error

    def sync(self, handles: list[DiskHandle]) -> None:
        """Make files and their names durable (one file may be named by many bundles). Raises: OSError."""
        fresh = {handle.number: handle for handle in handles if not handle.synced}
        for handle in fresh.values():
            os.fsync(handle.fd)
        if fresh:
            sync_directory(self.path)
        for handle in fresh.values():
            handle.synced = True


class Buffers:
    """Idle page-aligned buffers, so that a transfer does not begin with page faults."""

    def __init__(self, most: int) -> None:
        self._idle: list[memoryview] = []
        self._most = most

    def take(self) -> memoryview:
        return self._idle.pop() if self._idle else memoryview(mmap.mmap(-1, BUFFER_OCTETS))

    def give(self, buffer: memoryview) -> None:
        if len(self._idle) < self._most:
            self._idle.append(buffer)


class Place:
    """Where new payloads go: makes handles, knows its name for error messages and the room that is left."""

    def __init__(
        self,
        create: Callable[[], PayloadHandle],
        where: str,
        free_octets: Callable[[], int] | None = None,
        buffers: Buffers | None = None,
    ) -> None:
        self.create = create
        self.where = where
        self.buffers = buffers or Buffers(IDLE_BUFFERS_MAX)
        self._free_octets = free_octets

    def check_room(self, octets: int) -> None:
        """Refuse at once what cannot fit, instead of filling the disk with half of it. Raises: StorageError."""
        if self._free_octets is not None and self._free_octets() < octets:
            raise disk_full(self.where)


class Filling:
    """One new payload while octets come: they are gathered in an aligned buffer and kept when it is full."""

    __slots__ = ("_place", "buffer", "handle", "used", "written")

    def __init__(self, place: Place) -> None:
        self._place = place
        self.handle: PayloadHandle | None = place.create()
        self.buffer = place.buffers.take()
        self.used = 0  # octets in the buffer
        self.written = 0  # octets before those

    def flush(self) -> None:
        """Keep what the buffer holds. Raises: StorageError."""
        assert self.handle is not None, "written after its end"
        try:
            self.buffer = self.handle.keep(self.buffer, self.used, self._place.buffers)
        except OSError as error:
            raise storage_error(error, self._place.where) from error
        self.written += self.used
        self.used = 0

    def write(self, data: memoryview) -> None:
        """Append. Raises: StorageError."""
        while data:
            count = min(BUFFER_OCTETS - self.used, len(data))
            self.buffer[self.used : self.used + count] = data[:count]
            self.used += count
            data = data[count:]
            if self.used == BUFFER_OCTETS:
                self.flush()

    def finish(self) -> PayloadHandle:
        """Keep the rest; the handle's one reader is the caller from now on. Raises: StorageError."""
        self.flush()
        assert self.handle is not None, "finished twice"
        handle, self.handle = self.handle, None
        self._give_buffer()
        return handle

    def abort(self) -> None:
        """Nothing is kept; after an end there is nothing to do."""
        if self.handle is not None:
            self.handle.release()
            self.handle = None
            self._give_buffer()

    def _give_buffer(self) -> None:
        """From now on it may be another transfer's: a late caller finds no octet of it here."""
        self._place.buffers.give(self.buffer)
        self.buffer = memoryview(b"")


class FileWriter:
    """PayloadWriter of both stores."""

    def __init__(self, place: Place) -> None:
        self._filling = Filling(place)
        self._crc32c = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append. Raises: StorageError."""
        view = memoryview(data).cast("B")
        self._crc32c = crc32c(view, self._crc32c)
        try:
            self._filling.write(view)
        except StorageError:
            self._filling.abort()
            raise

    def finish(self) -> FileRange:
        """The payload; the handle's one reader is the caller. Raises: StorageError."""
        try:
            handle = self._filling.finish()
        except StorageError:
            self._filling.abort()
            raise
        return FileRange(handle, 0, self._filling.written, self._crc32c)

    def abort(self) -> None:
        self._filling.abort()
