"""What a receiver knows of one transfer: a value that is committed with the identity of every chunk."""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import Any

import msgspec

from tumpline.errors import MalformedError, StateError
from tumpline.wire.files import Manifest, Piece

NO_BITS = b""


class Phase(Enum):
    """The life of a transfer at its receiver: OPEN -> PLACED -> DONE, or OPEN -> DONE."""

    OPEN = "open"  # chunks are missing, or the file has not appeared yet
    PLACED = "placed"  # the file has appeared, its receipt is not committed
    DONE = "done"  # the receipt is committed: delivered or refused


class Partial(msgspec.Struct):
    """One transfer. `bits` has a bit for each chunk that is on the disk."""

    source: str
    transfer: bytes
    chunk_octets: int
    expires_ms: int  # DTN time: the latest of its bundles
    bits: bytes = NO_BITS
    octets: int = 0  # on the disk
    manifest: tuple[str, int, bytes] | None = None
    phase: Phase = Phase.OPEN
    final: str | None = None  # the name that it is given: the intent, before the file appears
    refused: str | None = None  # the reason, if it was

    @property
    def key(self) -> str:
        return key_of(self.source, self.transfer)

    @property
    def whole(self) -> Manifest | None:
        return Manifest(*self.manifest) if self.manifest is not None else None

    def has(self, index: int) -> bool:
        return index // 8 < len(self.bits) and bool(self.bits[index // 8] >> index % 8 & 1)

    def note_chunk(self, index: int, octets: int) -> None:
        """The chunk is on the disk."""
        bits = bytearray(self.bits.ljust(index // 8 + 1, b"\0"))
        bits[index // 8] |= 1 << index % 8
        self.bits = bytes(bits)
        self.octets += octets

    def describe(self) -> dict[str, Any]:
        """For people: what there is of it."""
        name, size = self.manifest[:2] if self.manifest is not None else (None, None)
        return {"source": self.source, "name": name, "octets": self.octets, "size": size}

    @property
    def complete(self) -> bool:
        """Whether every chunk is there (and it is known how many there are)."""
        return self.manifest is not None and self.octets == self.manifest[1]

    def check(self, piece: Piece, octets: int) -> None:
        """Raises MalformedError if the piece does not fit what came before."""
        if piece.chunk_octets != self.chunk_octets:
            raise MalformedError("chunks of two sizes in one transfer")
        if piece.manifest is not None and self.manifest is not None and piece.manifest != self.whole:
            raise MalformedError("two manifests in one transfer")
        manifest = piece.manifest or self.whole
        if piece.chunk is None:
            if octets:
                raise MalformedError("octets behind a manifest")
        elif manifest is not None:
            expected = min(self.chunk_octets, manifest.size - piece.chunk * self.chunk_octets)
            if octets != expected or not octets:
                raise MalformedError(f"chunk {piece.chunk} has {octets} octets, not {max(0, expected)}")
        elif not 0 < octets <= self.chunk_octets:
            raise MalformedError(f"chunk {piece.chunk} has {octets} octets, not 1 to {self.chunk_octets}")


def key_of(source: str, transfer: bytes) -> str:
    """The name of a transfer here. It holds the source: nobody writes into another's file."""
    return hashlib.sha256(source.encode() + b"\0" + transfer).hexdigest()[:32]


def pack(partial: Partial) -> bytes:
    return msgspec.msgpack.encode(partial)


def unpack(data: bytes) -> Partial:
    """Raises: StateError if the record is damaged."""
    try:
        return msgspec.msgpack.decode(data, type=Partial)
    except msgspec.MsgspecError as error:
        raise StateError(f"a record of the files service is damaged: {error}") from error
