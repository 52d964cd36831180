"""Bundles that wait for somebody to take them: small ones in memory, large ones in files that have no name.

A file without a name (O_TMPFILE) is gone with the process, however that ends, and gets its name in the moment somebody
takes it: within one file system nothing is copied, and nothing that is there already is ever overwritten.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import stat
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from tumpline.drivers.stores._files import IDLE_BUFFERS_MAX, Buffers, Filling, Place, storage_error, write_at
from tumpline.errors import StorageError, TumplineError
from tumpline.machines.contract import FileRange
from tumpline.machines.effects import Arrival, RefuseReason

# Where files go of whom nobody told a directory: large, and on a disk (a /tmp in memory would fill it).
ROOMY = "/var/tmp"
COPY_OCTETS = 8 << 20  # of one call in the copying thread
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


class BytesHandle:
    """Octets in memory, as a handle: for who wants to be told when they begin to be sent."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)

    @property
    def fd(self) -> int:
        raise StorageError("octets in memory have no file")

    def runs(self, offset: int, length: int) -> list[memoryview] | None:
        """Where they lie."""
        return [self._data[offset : offset + length]]

    def retain(self) -> None:
        """They live as long as anybody has the handle."""

    def release(self) -> None:
        """See `retain`."""


class OpenFile:
    """A descriptor that is closed at the last release. One reader at first: who made it."""

    __slots__ = ("_closed", "_readers", "_written", "fd")

    def __init__(self, fd: int, closed: Callable[[], None] = lambda: None) -> None:
        """`closed` is called when the descriptor was given back."""
        self.fd = fd
        self._closed = closed
        self._readers = 1
        self._written = 0

    def runs(self, _offset: int, _length: int) -> list[memoryview] | None:
        """It lies in a file."""
        return None

    def keep(self, buffer: memoryview, used: int, _buffers: Buffers) -> memoryview:
        """Append. Raises: OSError."""
        write_at(self.fd, buffer[:used], self._written)
        self._written += used
        return buffer

    def retain(self) -> None:
        assert self._readers > 0, "retain after the last release"
        self._readers += 1

    def release(self) -> None:
        assert self._readers > 0, "release without retain"
        self._readers -= 1
        if not self._readers:
            self.__del__()

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._closed()


class Room:
    """So many octets (or what else can be counted), lent."""

    def __init__(self, octets_most: int) -> None:
        self.octets_most = octets_most
        self.octets = 0

    def take(self, octets: int) -> bool:
        """False: there is not so much left, nothing was taken."""
        if self.octets + octets > self.octets_most:
            return False
        self.octets += octets
        return True

    def give(self, octets: int) -> None:
        """Give octets back."""
        assert octets <= self.octets, "more was given back than was lent"
        self.octets -= octets


class Watcher(Protocol):
    """Who is told what becomes of a transfer on its way into a file."""

    def came(self, octets: int) -> None:
        """So many octets have come so far."""

    def dropped(self, octets: int) -> None:
        """It will not be completed: the file was given up after so many octets."""


class Spool:
    """Files without a name in one directory, at most `octets_most` in all, and half of the descriptors that a process may
    have: the rest is for connections."""

    def __init__(self, directory: Path | None, octets_most: int) -> None:
        """Raises: StorageError (no file can be made there)."""
        self.room = Room(octets_most)
        self._files = Room(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self.directory = directory or default_directory()
        self._place = Place(self._create, str(self.directory), self._free_octets, Buffers(IDLE_BUFFERS_MAX))
        self._create().release()  # a directory that cannot be used is said now

    def sink(self, octets: int, watcher: Watcher) -> SpoolSink | RefuseReason:
        """Where a bundle goes of which so many octets are known to come.

        No room now: NO_RESOURCES; more than there ever is: NOT_ACCEPTABLE."""
        if octets > self.room.octets_most:
            return RefuseReason.NOT_ACCEPTABLE
        if not self.room.take(octets):
            return RefuseReason.NO_RESOURCES
        try:
            self._place.check_room(octets)
            return SpoolSink(self._place, self.room, octets, watcher)
        except StorageError:
            self.room.give(octets)
            return RefuseReason.NO_RESOURCES

    def _create(self) -> OpenFile:
        if not self._files.take(1):
            raise StorageError(f"{self._files.octets_most} received bundles wait in files, as many as may be open")
        try:
            return OpenFile(_nameless(self.directory), partial(self._files.give, 1))
        except OSError as error:
            self._files.give(1)
            raise storage_error(error, str(self.directory)) from error

    def _free_octets(self) -> int:
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize


def default_directory() -> Path:
    """Where files go of whom nobody told a directory."""
    if "TMPDIR" not in os.environ and os.access(ROOMY, os.W_OK | os.X_OK):
        return Path(ROOMY)
    return Path(tempfile.gettempdir())


def _nameless(directory: Path) -> int:
    """A new file that has no name. Raises: OSError."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    # A file system without O_TMPFILE: the name is given up at once. Such a file cannot get one again: it is copied.
    fd, name = tempfile.mkstemp(prefix=".tumpline-", dir=directory)
    os.unlink(name)
    return fd


class SpoolSink:
    """Sink of one transfer: whatever octets it has, bundle or not."""

    def __init__(self, place: Place, room: Room, octets: int, watcher: Watcher) -> None:
        """`octets` of the room are lent already. Raises: StorageError."""
        self._filling = Filling(place)
        self._place = place
        self._room = room
        self._lent = octets
        self._received = 0
        self._watcher = watcher

    def buffer(self, most: int) -> memoryview:
        filling = self._filling
        return filling.buffer[filling.used : filling.used + most]

    def more(self, octets: int) -> RefuseReason | None:
        if not self._room.take(octets):
            return RefuseReason.NO_RESOURCES
        self._lent += octets
        try:
            self._place.check_room(octets)
        except StorageError:
            return RefuseReason.NO_RESOURCES
        return None

    def advance(self, count: int) -> None:
        filling = self._filling
        filling.used += count
        self._received += count
        if filling.used < len(filling.buffer):
            return
        try:
            filling.flush()
        except StorageError:
            self.abort()
            raise
        self._watcher.came(self._received)

    def finish(self, transfer: int) -> Arrival:
        """The room stays lent for as many octets as came."""
        try:
            handle = self._filling.finish()
        except StorageError:
            self.abort()
            raise
        self._room.give(self._lent - self._received)
        self._lent = 0
        return Arrival(transfer, b"", FileRange(handle, 0, self._received))

    def abort(self) -> None:
        if self._lent:  # neither finished nor aborted yet
            self._filling.abort()
            self._room.give(self._lent)
            self._lent = 0
            self._watcher.dropped(self._received)


def raise_file_limit() -> None:
    """Let this process have as many open files as it may: each large bundle that waits is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # "infinity" where the kernel takes no such number: what there is must do
        return


# ---- giving octets away ----------------------------------------------------------------------------------------------


async def name_file(fd: int, path: str, mode: int) -> None:
    """Give a nameless file this name, or (another file system) copy it there, by a thread.

    What is at `path` already stays as it is. Raises: OSError (FileExistsError among others); then nothing is there."""
    try:
        # With a directory given (of no meaning to an absolute path) this is linkat with AT_SYMLINK_FOLLOW; without, link().
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    except FileExistsError:
        raise
    except OSError:
        await asyncio.to_thread(_copy_to, fd, path, mode)
    else:
        os.fchmod(fd, mode)


async def write_file(data: bytes, path: str, mode: int) -> None:
    """A new file with this content. Raises: OSError; then nothing is there."""
    await asyncio.to_thread(_write_to, data, path, mode)


def memory_file(data: bytes) -> int:
    """A descriptor from which these octets are read. Raises: OSError."""
    fd = os.memfd_create("tumpline-bundle", os.MFD_CLOEXEC)
    try:
        write_at(fd, memoryview(data), 0)
        return reading(fd)
    finally:
        os.close(fd)


def reading(fd: int) -> int:
    """A second descriptor of the file, for reading only, with an offset of its own. Raises: OSError."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def _new_file(path: str, mode: int) -> int:
    # O_EXCL: never through a symbolic link, never over what is there. O_NOFOLLOW says the same to who reads this.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def _write_to(data: bytes, path: str, mode: int) -> None:
    out = _new_file(path, mode)
    try:
        write_at(out, memoryview(data), 0)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(out)


def _copy_to(fd: int, path: str, mode: int) -> None:
    out, offset = _new_file(path, mode), 0
    try:
        while count := os.sendfile(out, fd, offset, COPY_OCTETS):
            offset += count
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(out)


# ---- taking octets from files ----------------------------------------------------------------------------------------


def open_to_send(path: str) -> FileRange:
    """All of a file as it is now. The handle's one reader is the caller. Raises: OSError, TumplineError."""
    # O_NONBLOCK: opening a FIFO that nobody writes would wait for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    return file_to_send(fd, path)


def file_to_send(fd: int, what: str) -> FileRange:
    """All of an open file as it is now; the descriptor is the handle's. Raises: TumplineError (not a regular file)."""
    handle = OpenFile(fd)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise TumplineError(f"{what} is no regular file: only those have a length to announce; copy it into one")
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return FileRange(handle, 0, found.st_size)
