"""Frames of IEEE 802.15.4 radios: their check sequence, and as much of their head as tells who sends what to whom.

Clauses are of IEEE Std 802.15.4-2020.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from fastcrc.crc16 import kermit as _crc16

from tumpline.errors import MalformedError

FRAME_OCTETS_MOST: Final = 127  # aMaxPhyPacketSize, with the FCS
FCS_OCTETS: Final = 2
BROADCAST: Final = b"\xff\xff"


class FrameType(IntEnum):
    """Clause 7.2.2.2."""

    BEACON = 0
    DATA = 1
    ACK = 2
    COMMAND = 3
    RESERVED = 4
    MULTIPURPOSE = 5
    FRAGMENT = 6
    EXTENDED = 7


class Head(NamedTuple):
    """Addresses are as people write them: the most significant octet first; None is not there."""

    kind: FrameType
    wants_ack: bool
    is_secured: bool
    sequence: int | None
    destination_pan: bytes | None
    destination: bytes | None
    source: bytes | None
    head_octets: int


def fcs(frame: bytes) -> bytes:
    """The check sequence that stands behind the frame (clause 7.2.11: ITU-T CRC-16, from zero, low octet first)."""
    return _crc16(frame).to_bytes(2, "little")


def has_valid_fcs(frame: bytes) -> bool:
    """Whether the last two octets are the check sequence of those before."""
    return len(frame) > FCS_OCTETS and fcs(frame[:-FCS_OCTETS]) == frame[-FCS_OCTETS:]


_ADDRESS_OCTETS: Final = {0: 0, 2: 2, 3: 8}  # clause 7.2.2.9: by the mode; 1 is reserved


def decode_head_untrusted(frame: bytes) -> Head:
    """The head of a frame of version 2003, 2006 or 2015. Raises: MalformedError, for types without this head too."""
    if len(frame) < 3:
        raise MalformedError(f"802.15.4: a frame of {len(frame)} octets")
    control = int.from_bytes(frame[:2], "little")
    kind = FrameType(control & 7)
    if kind > FrameType.COMMAND:
        raise MalformedError(f"802.15.4: frames of type {kind.name.lower()} are not read")
    version = control >> 12 & 3
    if version == 3:
        raise MalformedError("802.15.4: frame version 3 is reserved")
    at, sequence = 2, None
    if not (version == 2 and control & 0x100):  # sequence number suppression, version 2015 only
        sequence, at = frame[2], 3
    modes = control >> 10 & 3, control >> 14 & 3
    if 1 in modes:
        raise MalformedError("802.15.4: a reserved addressing mode")
    pans = _pans(version, modes, compressed=bool(control & 0x40))
    parts: list[bytes | None] = []
    for length in (2 * pans[0], _ADDRESS_OCTETS[modes[0]], 2 * pans[1], _ADDRESS_OCTETS[modes[1]]):
        if at + length > len(frame):
            raise MalformedError("802.15.4: a frame that ends in its head")
        parts.append(frame[at : at + length][::-1] if length else None)
        at += length
    return Head(kind, bool(control & 0x20), bool(control & 8), sequence, parts[0], parts[1], parts[3], at)


def _pans(version: int, modes: tuple[int, int], *, compressed: bool) -> tuple[bool, bool]:
    """Which PAN IDs are there, of destination and source (clause 7.2.2.6; Table 7-2 for version 2015)."""
    destination, source = bool(modes[0]), bool(modes[1])
    if version < 2 or (destination and source and modes != (3, 3)):
        return destination, source and not (compressed and destination)
    if not destination and not source:
        return compressed, False
    if destination and source:  # both extended
        return not compressed, False
    return destination and not compressed, source and not compressed
