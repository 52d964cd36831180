"""Octets of bundles between a node and an agent on the bus: units into messages and files, received ones into sinks."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from tumpline.drivers.links._api import Sink
from tumpline.drivers.links._units import put
from tumpline.drivers.payload import PIECE_OCTETS, pieces
from tumpline.drivers.spool import default_directory
from tumpline.errors import PayloadGoneError, StorageError
from tumpline.machines.effects import Unit

PREFIX = "tumpline-bus-"
TURN_OCTETS = 1 << 20  # copied in one turn of the loop: others must have theirs


class Body(NamedTuple):
    """A received bundle, fetched from the agent: octets, or an open file (0 is never one of ours)."""

    octets: int
    data: bytes
    fd: int = 0

    def close(self) -> None:
        if self.fd:
            os.close(self.fd)


def whole(unit: Unit) -> bytes:
    """The encoded bundle. Raises: PayloadGoneError."""
    return b"".join(_parts(unit))


def _parts(unit: Unit) -> Iterator[bytes | memoryview]:
    """Raises: PayloadGoneError."""
    yield unit.head
    try:
        yield from pieces(unit.payload)
    except StorageError as error:
        raise PayloadGoneError(str(error)) from error
    yield unit.tail


class Workshop:
    """A private directory, made when it is first needed, where bundles are files for as long as a call takes."""

    def __init__(self, parent: str) -> None:
        self._parent = parent or str(default_directory())
        self._directory = ""
        self._names = 0

    def new_path(self) -> str:
        """Where a file may be made that nobody else can open (but root). Raises: StorageError."""
        if not self._directory:
            _sweep(self._parent)
            try:
                self._directory = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=self._parent)
            except OSError as error:
                raise StorageError(f"{self._parent}: {error.strerror}; name another `spool` directory") from error
        self._names += 1
        return f"{self._directory}/{self._names}"

    def close(self) -> None:
        """Nothing is left of it."""
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""

    def write(self, unit: Unit, path: str) -> int:
        """The unit as a new file, open; the caller's. Raises: StorageError."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        try:
            for part in _parts(unit):
                _write_all(fd, part)
        except OSError as error:
            os.close(fd)
            os.unlink(path)
            raise StorageError(f"{path}: {error.strerror}; name another `spool` directory") from error
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
        return fd


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sweep(parent: str) -> None:
    """What a process that was killed has left."""
    for name in os.listdir(parent):
        pid = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(f"{parent}/{name}", ignore_errors=True)  # another user's stays


def open_fetched(path: str) -> Body:
    """A file that the agent has made for us; its name is gone afterwards. Raises: StorageError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.unlink(path)
    except OSError as error:
        raise StorageError(f"{path}: the agent was to write a bundle there: {error.strerror}") from error
    return Body(os.fstat(fd).st_size, b"", fd)


def body_of(fd: int) -> Body:
    """A file that the agent has passed; ours from now on."""
    return Body(os.fstat(fd).st_size, b"", fd)


def small(body: Body) -> bytes:
    """All octets of a small one. Raises: OSError."""
    return os.pread(body.fd, body.octets, 0) if body.fd else body.data


async def fill(sink: Sink, body: Body) -> None:
    """All octets go into the sink, with turns for others between. Raises: StorageError, MalformedError."""
    view, done = memoryview(body.data), 0
    while done < body.octets:
        for _ in range(TURN_OCTETS // PIECE_OCTETS):
            count = min(PIECE_OCTETS, body.octets - done)
            if body.fd:
                count = _read_into(sink, body.fd, done, count)
            else:
                put(sink, view[done : done + count])
            done += count
            if done == body.octets:
                return
        await asyncio.sleep(0)


def _read_into(sink: Sink, fd: int, offset: int, most: int) -> int:
    room = sink.buffer(most)[:most]
    count = os.preadv(fd, [room], offset)
    if not count:
        raise StorageError("a bundle's file is shorter than it was: whoever passed it has cut it")
    sink.advance(count)
    return count
