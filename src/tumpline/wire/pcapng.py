"""Captures as pcapng files (draft-ietf-opsawg-pcapng), for Wireshark: written only, block by block.

Little-endian, times in nanoseconds. Every block is whole by itself: a file that ends anywhere between two blocks is right.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

SNAP_OCTETS: Final = 262_144  # what Wireshark takes as the longest packet

_SECTION, _INTERFACE, _SECRETS, _PACKET = 0x0A0D0D0A, 1, 10, 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_BLOCK, _OPTION = Struct("<II"), Struct("<HH")
_TLS_KEY_LOG: Final = 0x544C534B  # section 4.7: "TLSK"


class LinkType(IntEnum):
    """What the octets of a packet are (the registry of link types of tcpdump.org)."""

    ETHERNET = 1
    RAW_IP = 101  # version 4 or 6, by the first four bits
    IEEE802_15_4_WITHFCS = 195
    IPV4 = 228
    IPV6 = 229
    IEEE802_15_4_NOFCS = 230
    UPPER_PDU = 252
    IEEE802_15_4_TAP = 283


class Direction(IntEnum):
    """Of a packet, seen from the interface (section 4.3.1: the lowest bits of epb_flags)."""

    INBOUND = 1
    OUTBOUND = 2


class Option(IntEnum):
    """Sections 3.5.1, 4.1 to 4.3."""

    END = 0
    COMMENT = 1
    NAME = 2  # of an interface; of a packet its flags
    DESCRIPTION = 3  # of an interface
    APPLICATION = 4  # of a section
    RESOLUTION = 9  # of an interface's times


def section(application: str) -> bytes:
    """What a file begins with."""
    head = Struct("<IHHq").pack(_BYTE_ORDER_MAGIC, 1, 0, -1)  # its length is not known
    return _block(_SECTION, head, _option(Option.APPLICATION, application.encode()))


def interface(link_type: LinkType, name: str, description: str = "") -> bytes:
    """One interface; the first is number 0, the next 1 ..."""
    head = Struct("<HHI").pack(link_type, 0, SNAP_OCTETS)
    options = _option(Option.NAME, name.encode())
    if description:
        options += _option(Option.DESCRIPTION, description.encode())
    return _block(_INTERFACE, head, options + _option(Option.RESOLUTION, b"\x09"))  # 10^-9 s


_PACKET_HEAD: Final = Struct("<IIIII")
_FLAGS: Final = {each: _OPTION.pack(2, 4) + each.to_bytes(4, "little") for each in Direction}


def packet(
    number: int, time_ns: int, data: bytes | memoryview, comment: str = "", direction: Direction | None = None
) -> bytes:
    """A packet of interface `number`; `time_ns` is nanoseconds since 1970. What is longer than SNAP_OCTETS is cut."""
    captured = data[:SNAP_OCTETS]
    head = _PACKET_HEAD.pack(number, time_ns >> 32 & 0xFFFFFFFF, time_ns & 0xFFFFFFFF, len(captured), len(data))
    options = _option(Option.COMMENT, comment.encode()) if comment else b""
    if direction is not None:
        options += _FLAGS[direction]
    return _block(_PACKET, b"".join((head, captured, bytes(-len(captured) % 4))), options)


def tls_secrets(key_log: bytes) -> bytes:
    """Lines of a TLS key log: what follows can be decrypted with them."""
    return _block(_SECRETS, Struct("<II").pack(_TLS_KEY_LOG, len(key_log)) + _padded(key_log), b"")


def _block(kind: int, body: bytes, options: bytes) -> bytes:
    if options:
        options += _OPTION.pack(Option.END, 0)
    length = 12 + len(body) + len(options)
    return b"".join((_BLOCK.pack(kind, length), body, options, length.to_bytes(4, "little")))


def _option(code: Option, value: bytes) -> bytes:
    value = value[:0xFFFF]
    return _OPTION.pack(code, len(value)) + _padded(value)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)
