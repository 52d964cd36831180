"""IEEE 802.15.4 TAP (link type 283): what stands before a captured frame and tells how it was received.

Its text is the one of tcpdump.org: a head of four octets, then TLVs padded to four octets, all little-endian.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from tumpline.wire.radio import RadioFacts


class Tlv(IntEnum):
    """Types of section "TLVs"."""

    FCS_TYPE = 0
    RSS = 1
    CHANNEL = 3
    LQI = 10


class FcsType(IntEnum):
    """Which check sequence stands behind the frame."""

    NONE = 0
    CRC_16 = 1


_HEAD: Final = Struct("<BxH")  # version 0, length of the head with its TLVs
_TLV: Final = Struct("<HH")
_RSS: Final = Struct("<f")
_CHANNEL: Final = Struct("<HBx")


def encode_tap(facts: RadioFacts) -> bytes:
    """What goes before the frame, and before its FCS if the facts hold one."""
    kind = FcsType.NONE if facts.fcs is None else FcsType.CRC_16
    tlvs = [_tlv(Tlv.FCS_TYPE, bytes([kind]))]
    if facts.rss_dbm is not None:
        tlvs.append(_tlv(Tlv.RSS, _RSS.pack(facts.rss_dbm)))
    if facts.channel is not None:
        tlvs.append(_tlv(Tlv.CHANNEL, _CHANNEL.pack(facts.channel, facts.page)[:3]))
    if facts.lqi is not None:
        tlvs.append(_tlv(Tlv.LQI, bytes([facts.lqi])))
    octets = b"".join(tlvs)
    return _HEAD.pack(0, _HEAD.size + len(octets)) + octets


def _tlv(kind: Tlv, value: bytes) -> bytes:
    return _TLV.pack(kind, len(value)) + value + bytes(-len(value) % 4)
