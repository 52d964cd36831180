"""Units on their way out: runs of octets and file ranges, as a stream sends them."""

from __future__ import annotations

from typing import Protocol, cast

from tumpline.drivers.stream import FileSlice, Piece
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange, Handle
from tumpline.machines.effects import Unit


class _OpenHandle(Protocol):
    @property
    def fd(self) -> int: ...


def descriptor(handle: Handle) -> int:
    """The file descriptor behind a handle of this process's stores."""
    return cast(_OpenHandle, handle).fd


def whole(unit: Unit) -> bytes | None:
    """The encoded bundle if it lies in memory and is small, else None."""
    payload = unit.payload
    if isinstance(payload, FileRange) or len(payload.data) >= FILE_PAYLOAD_OCTETS:
        return None
    return unit.head + payload.data + unit.tail


def unit_range(unit: Unit, offset: int, length: int) -> list[Piece]:
    """`length` octets of the encoded bundle from `offset`, without copying. No piece is empty."""
    head_octets, payload = len(unit.head), unit.payload
    pieces: list[Piece] = []
    pieces += _memory_range(unit.head, offset, offset + length)
    begin, end = max(offset - head_octets, 0), min(offset + length - head_octets, payload.length)
    if begin < end:
        if isinstance(payload, FileRange):
            pieces.append(FileSlice(descriptor(payload.handle), payload.offset + begin, end - begin))
        else:
            pieces.append(memoryview(payload.data)[begin:end])
    behind = offset - head_octets - payload.length
    return pieces + _memory_range(unit.tail, max(behind, 0), behind + length)


def _memory_range(data: bytes, begin: int, end: int) -> list[Piece]:
    part = memoryview(data)[begin:end] if begin < end else None
    return [part] if part else []


def release(unit: Unit) -> None:
    """The unit has ended: give its payload handle back."""
    if isinstance(unit.payload, FileRange):
        unit.payload.handle.release()
