"""Units on their way: runs of octets and file ranges as a stream sends them, and into sinks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from tumpline.drivers.links._api import LinkHost, Sink
from tumpline.drivers.payload import descriptor, in_memory, read_range
from tumpline.drivers.payload import release as release_payload
from tumpline.drivers.stream import FileSlice, Piece
from tumpline.errors import PayloadGoneError, StorageError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange
from tumpline.machines.effects import Unit

_ENDED = "a payload file ended before the length it was stored with"


def read_small(unit: Unit) -> bytes | None:
    """The encoded bundle, wherever it lies, if it is to travel whole; else None. Raises: StorageError."""
    if unit.length >= FILE_PAYLOAD_OCTETS:
        return None
    return unit.head + read_range(unit.payload, 0, unit.payload.length) + unit.tail


def whole(unit: Unit) -> bytes | None:
    """The encoded bundle if it lies in memory and is small, else None."""
    payload = unit.payload
    if isinstance(payload, FileRange) or len(payload.data) >= FILE_PAYLOAD_OCTETS:
        return None
    data = unit.head + payload.data + unit.tail
    return data if len(data) < FILE_PAYLOAD_OCTETS else None


def unit_range(unit: Unit, offset: int, length: int) -> list[Piece]:
    """`length` octets of the encoded bundle from `offset`, without copying. No piece is empty.

    Raises: PayloadGoneError if the file is gone or shorter than it was stored; StorageError."""
    head_octets, payload = len(unit.head), unit.payload
    pieces: list[Piece] = []
    pieces += _memory_range(unit.head, offset, offset + length)
    begin, end = max(offset - head_octets, 0), min(offset + length - head_octets, payload.length)
    if begin < end:
        if not isinstance(payload, FileRange):
            pieces.append(memoryview(payload.data)[begin:end])
        elif (runs := in_memory(payload, begin, end - begin)) is not None:
            pieces += runs
        else:
            fd = descriptor(payload)
            if os.fstat(fd).st_size < payload.offset + end:
                raise PayloadGoneError(_ENDED)
            pieces.append(FileSlice(fd, payload.offset + begin, end - begin))
    behind = offset - head_octets - payload.length
    return pieces + _memory_range(unit.tail, max(behind, 0), behind + length)


def _memory_range(data: bytes, begin: int, end: int) -> list[Piece]:
    part = memoryview(data)[begin:end] if begin < end else None
    return [part] if part else []


def release(unit: Unit) -> None:
    """The unit has ended: give its payload handle back."""
    release_payload(unit.payload)


def lose(host: LinkHost, path: int, units: Sequence[Unit]) -> None:
    """They will not be sent: give their payloads back, and say so."""
    for unit in units:
        release(unit)
    if units:
        host.lost(path, [unit.seq for unit in units])


class LongUnits:
    """Units whose octets are taken piece by piece, each until it has ended; then `ended` gives its payload back."""

    def __init__(self, ended: Callable[[Unit], None] = release) -> None:
        self._ended = ended
        self._units: dict[int, Unit] = {}

    def add(self, unit: Unit) -> None:
        """It was offered."""
        self._units[unit.seq] = unit

    def pieces(self, seq: int, offset: int, length: int) -> list[Piece]:
        """See `unit_range`."""
        return unit_range(self._units[seq], offset, length)

    def end(self, seqs: Iterable[int]) -> None:
        """These have ended, long ones and others."""
        if self._units:
            for seq in seqs:
                unit = self._units.pop(seq, None)
                if unit is not None:
                    self._ended(unit)


def put(sink: Sink, data: bytes | memoryview) -> None:
    """All of `data` goes into the sink. Raises: StorageError, MalformedError."""
    view = memoryview(data)
    while view:
        room = sink.buffer(len(view))
        count = min(len(room), len(view))
        room[:count] = view[:count]
        sink.advance(count)
        view = view[count:]


def copy_into(sink: Sink, unit: Unit, offset: int, length: int) -> int:
    """The first piece of this range of the unit goes into the sink. Returns its octets.

    Raises: StorageError, MalformedError."""
    piece = unit_range(unit, offset, length)[0]
    if not isinstance(piece, FileSlice):
        put(sink, piece)
        return len(piece)
    room = sink.buffer(piece.length)[: piece.length]
    count = os.preadv(piece.fd, [room], piece.offset)
    if count == 0:
        raise StorageError(_ENDED)
    sink.advance(count)
    return count
