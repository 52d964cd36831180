"""What a sender knows of one transfer, and how a file becomes the octets of its chunks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import msgspec

from tumpline.errors import ConfigError, StateError
from tumpline.wire import files as wire

_PIECE_OCTETS = 1 << 20
_TELL_OCTETS = 16 << 20  # progress of hashing: about a hundred times a second


class Progress(msgspec.Struct, tag="progress", tag_field="event"):
    """How far a phase is: hash (reading the file once), store (chunks are bundles in this node's store)."""

    phase: str
    octets: int
    total: int | None


class Waiting(msgspec.Struct, tag="waiting", tag_field="event"):
    """The node takes nothing at the moment (quota); it is tried again."""

    reason: str


class Stored(msgspec.Struct, tag="stored", tag_field="event"):
    """All is stored here: the agent sees to the rest, and whoever asked may go."""

    transfer: str
    name: str
    octets: int
    chunks: int
    resumed: int
    """Octets that an earlier run had stored already."""


class Delivered(msgspec.Struct, tag="delivered", tag_field="event"):
    """The receiver has the whole file, verified, under this name."""

    name: str


class Finished(msgspec.Struct, tag="finished", tag_field="event"):
    """The last event."""

    exit_code: int
    """0: delivered; 3: not stored in time; 5: refused by the receiver; 6: stored, not yet delivered; 1: failed."""
    reason: str | None = None


SendEvent = Progress | Waiting | Stored | Delivered | Finished


class Outgoing(msgspec.Struct):
    """One transfer, as it is kept."""

    transfer: bytes
    base: bytes  # what it would be called at its first attempt: content, name, destination
    attempt: int
    destination: str
    name: str
    path: str | None  # None: a stream, which cannot be read again
    chunk_octets: int
    expires_ms: int  # DTN time: as long as its bundles live
    size: int | None
    sha256: bytes | None
    mtime_ns: int = 0
    stored: int = 0  # chunks that are bundles in the store, counted from the first
    complete: bool = False  # everything is stored
    delivered: bool | None = None  # None: no receipt yet
    text: str = ""  # of the receipt

    @property
    def key(self) -> str:
        return self.transfer.hex()

    @property
    def chunks(self) -> int:
        return -(-(self.size or 0) // self.chunk_octets)

    @property
    def manifest(self) -> wire.Manifest | None:
        if self.size is None or self.sha256 is None:
            return None
        return wire.Manifest(self.name, self.size, self.sha256)

    @property
    def stored_octets(self) -> int:
        octets = self.stored * self.chunk_octets
        return octets if self.size is None else min(octets, self.size)


def pack(outgoing: Outgoing) -> bytes:
    return msgspec.msgpack.encode(outgoing)


def unpack(data: bytes) -> Outgoing:
    """Raises: StateError if the record is damaged."""
    try:
        return msgspec.msgpack.decode(data, type=Outgoing)
    except msgspec.MsgspecError as error:
        raise StateError(f"a record of the send service is damaged: {error}") from error


def base_of(destination: str, name: str, sha256: bytes, chunk_octets: int) -> bytes:
    """Same content, name, destination and cutting: same transfer."""
    text = f"{destination}\0{name}\0{chunk_octets}\0".encode()
    return hashlib.sha256(text + sha256).digest()[: wire.TRANSFER_OCTETS]


def transfer_of(base: bytes, attempt: int) -> bytes:
    """A file that was delivered and is sent again is another transfer, or its receiver would take it for a double."""
    if not attempt:
        return base
    return hashlib.sha256(base + attempt.to_bytes(8)).digest()[: wire.TRANSFER_OCTETS]


def random_transfer() -> bytes:
    return secrets.token_bytes(wire.TRANSFER_OCTETS)


class FileFacts(NamedTuple):
    """What tells whether a file is still the one that was hashed."""

    size: int
    mtime_ns: int


def facts(path: Path) -> FileFacts:
    """Raises: ConfigError (no such file, not a file)."""
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if not path.is_file():
        raise ConfigError(f"{path} is not a file; a stream is sent with `tumpline pipe`")
    return FileFacts(found.st_size, found.st_mtime_ns)


async def hashed(path: Path, total: int) -> AsyncGenerator[Progress | bytes, None]:
    """Reads the file once: progress, and at last its SHA-256. Raises: ConfigError (it cannot be read)."""
    found = hashlib.sha256()
    done = 0
    try:
        async for data in range_of(path, 0, total):
            await asyncio.to_thread(found.update, data)
            done += len(data)
            if done % _TELL_OCTETS == 0 or done == total:
                yield Progress("hash", done, total)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    yield found.digest()


async def range_of(path: Path, offset: int, length: int) -> AsyncGenerator[bytes, None]:
    """`length` octets from `offset`, piece by piece (fewer if the file has become shorter). Raises: OSError."""
    file = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while length:
            data = await asyncio.to_thread(os.pread, file, min(length, _PIECE_OCTETS), offset)
            if not data:
                return
            yield data
            offset += len(data)
            length -= len(data)
    finally:
        os.close(file)
