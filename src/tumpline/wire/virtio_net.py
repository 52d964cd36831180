"""How the kernel's segmentation is to treat a packet: struct virtio_net_hdr (virtio 1.2 §5.1.6), little-endian here.

A TUN device hands over up to 64 KiB at once, whose checksum nobody has computed, and says in this header how to make of it
the packets that cross a wire. Whoever cannot pass the header on makes them itself: `split`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire.ip_packet import IPV4_HEAD_OCTETS, IPV6_HEAD_OCTETS

Octets = bytes | bytearray | memoryview

OFFLOAD_OCTETS: Final = 10
NEEDS_CSUM: Final = 1  # the field at csum_start + csum_offset holds the sum of the pseudo-header alone
DATA_VALID: Final = 2  # somebody has checked the checksum: as good as a whole packet
ECN: Final = 0x80  # beside a type: the first segment alone carries CWR
# One TCP segment each 32 octets of a full super-packet; the kernel makes far fewer, a stranger might ask for more.
SEGMENTS_MOST: Final = 2048
IP_HEAD_OCTETS_MOST: Final = 256  # with options or extension headers; each segment repeats it

_HEADER: Final = Struct("<BBHHHH")
_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_TWO_U16: Final = Struct(">HH")
_TCP_OCTETS: Final = 20
_UDP_OCTETS: Final = 8
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80


class GsoType(IntEnum):
    """What a super-packet is cut into (linux/virtio_net.h)."""

    NONE = 0
    TCP4 = 1
    UDP_FRAGMENTS = 3
    TCP6 = 4
    UDP = 5


class Offload(NamedTuple):
    """The header's fields. `hdr_len` is a hint that is often wrong: the length of the heads follows from `csum_start`."""

    flags: int = 0
    gso_type: int = GsoType.NONE
    hdr_len: int = 0
    gso_size: int = 0  # octets of payload in each segment
    csum_start: int = 0  # where TCP or UDP begins
    csum_offset: int = 0  # of the checksum's field from there

    def encode(self) -> bytes:
        """The octets before the packet."""
        return _HEADER.pack(*self)


NO_OFFLOAD: Final = Offload().encode()


def decode_offload(octets: Octets) -> Offload:
    """The first OFFLOAD_OCTETS of `octets`, of which there are that many. Nothing in it is checked."""
    return Offload._make(_HEADER.unpack_from(octets))


def split(offload: Octets, packet: Octets) -> list[bytes]:
    """The packets that a super-packet is on a wire: whole, with all checksums. Raises: MalformedError."""
    if offload == NO_OFFLOAD:
        return [bytes(packet)]
    how = decode_offload(offload)
    kind = how.gso_type & ~ECN
    if kind == GsoType.NONE:
        return [_with_checksum(how, packet) if how.flags & NEEDS_CSUM else bytes(packet)]
    if not how.flags & NEEDS_CSUM or kind not in _HEAD_OF:
        raise MalformedError(f"super-packet: {how} is nothing a TUN device gives")
    heads = _heads(how, kind, packet)
    if kind == GsoType.UDP:
        return list(_udp_segments(heads, how.gso_size, packet))
    return list(_tcp_segments(heads, how.gso_size, packet))


def sum_of(octets: Octets) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071), as any number that is congruent to it modulo 65535."""
    total = int.from_bytes(octets, "big")
    return (total << 8 if len(octets) & 1 else total) % 0xFFFF


def _with_checksum(how: Offload, packet: Octets) -> bytes:
    at = how.csum_start + how.csum_offset
    if at + 2 > len(packet):
        raise MalformedError(f"checksum at octet {at} of a packet of {len(packet)}")
    whole = bytearray(packet)
    checksum = -sum_of(memoryview(whole)[how.csum_start :]) % 0xFFFF
    # RFC 768: zero would say that there is none. To TCP and ICMPv6 both mean the same (RFC 1071 §1).
    _U16.pack_into(whole, at, checksum or 0xFFFF)
    return bytes(whole)


# ---- super-packets ---------------------------------------------------------------------------------------------------


class _Heads(NamedTuple):
    """All in front of the payload, and what the segments' checksums have in common."""

    octets: bytearray  # IP and TCP or UDP; length, identification and checksums are to be written for each segment
    transport: int  # where TCP or UDP begins
    is_v4: bool
    identification: int  # of IPv4, of the first segment
    ip_sum: int  # of the IPv4 head without length, identification and checksum
    pseudo_sum: int  # of the pseudo-header without the length


_HEAD_OF: Final = {GsoType.TCP4: _TCP_OCTETS, GsoType.TCP6: _TCP_OCTETS, GsoType.UDP: _UDP_OCTETS}
_CHECKSUM_AT: Final = {GsoType.TCP4: 16, GsoType.TCP6: 16, GsoType.UDP: 6}


def _heads(how: Offload, kind: int, packet: Octets) -> _Heads:
    """Raises: MalformedError, unless there is a whole head before some payload."""
    gso_type = GsoType(kind)
    version = packet[0] >> 4 if packet else 0
    start, least = how.csum_start, _HEAD_OF[gso_type]
    is_v4 = version == 4
    right = version in {GsoType.TCP4: (4,), GsoType.TCP6: (6,)}.get(gso_type, (4, 6))
    shortest = IPV4_HEAD_OCTETS if is_v4 else IPV6_HEAD_OCTETS
    if not right or not shortest <= start <= IP_HEAD_OCTETS_MOST or start + least > len(packet):
        raise MalformedError(f"super-packet: {how} before an IPv{version} packet of {len(packet)} octets")
    size = least if gso_type == GsoType.UDP else (packet[start + 12] >> 4) * 4  # RFC 9293 §3.1: data offset
    payload = len(packet) - start - size
    few = 0 < payload <= how.gso_size * SEGMENTS_MOST
    if (
        size < least
        or how.csum_offset != _CHECKSUM_AT[gso_type]
        or not few
        or (is_v4 and (packet[0] & 15) * 4 != start)
    ):
        raise MalformedError(f"super-packet: {how} before {payload} octets of payload")
    octets = bytearray(packet[: start + size])
    # The pseudo-header's sum is in the field for the whole length; kept are the addresses and the protocol.
    pseudo = _U16.unpack_from(octets, start + how.csum_offset)[0] - (len(packet) - start)
    _U16.pack_into(octets, start + how.csum_offset, 0)
    if not is_v4:
        return _Heads(octets, start, is_v4, 0, 0, pseudo)
    identification = _U16.unpack_from(octets, 4)[0]
    octets[2:6], octets[10:12] = bytes(4), bytes(2)
    return _Heads(octets, start, is_v4, identification, sum_of(octets[:start]), pseudo)


def _tcp_segments(heads: _Heads, size: int, packet: Octets) -> Iterator[bytes]:
    """As RFC 9293 has them follow each other: sequence numbers go on, FIN and PSH are the last one's, CWR the first's."""
    octets, start = heads.octets, heads.transport
    sequence = _U32.unpack_from(octets, start + 4)[0]
    flags = octets[start + 13]
    _U32.pack_into(octets, start + 4, 0)
    octets[start + 13] = 0
    common = heads.pseudo_sum + sum_of(octets[start:])
    payload = memoryview(packet)[len(octets) :]
    head_octets, last = len(octets) - start, (len(payload) - 1) // size
    for number in range(last + 1):
        piece = payload[number * size : (number + 1) * size]
        now = flags & ~(_CWR if number else 0) & ~(_FIN | _PSH if number < last else 0)
        at = (sequence + number * size) & 0xFFFFFFFF
        length = head_octets + len(piece)
        _write_ip(heads, number, length)
        _U32.pack_into(octets, start + 4, at)
        octets[start + 13] = now
        _U16.pack_into(octets, start + 16, -(common + at + now + length + sum_of(piece)) % 0xFFFF)
        yield b"".join((octets, piece))


def _udp_segments(heads: _Heads, size: int, packet: Octets) -> Iterator[bytes]:
    octets, start = heads.octets, heads.transport
    _U16.pack_into(octets, start + 4, 0)
    common = heads.pseudo_sum + sum_of(octets[start:])
    payload = memoryview(packet)[len(octets) :]
    for number in range((len(payload) - 1) // size + 1):
        piece = payload[number * size : (number + 1) * size]
        length = _UDP_OCTETS + len(piece)
        _write_ip(heads, number, length)
        # The length is in the pseudo-header and in the head; zero would say that there is no checksum (RFC 768).
        checksum = -(common + 2 * length + sum_of(piece)) % 0xFFFF or 0xFFFF
        _TWO_U16.pack_into(octets, start + 4, length, checksum)
        yield b"".join((octets, piece))


def _write_ip(heads: _Heads, number: int, transport_octets: int) -> None:
    """Length, identification (RFC 791: another for each packet) and head checksum of segment `number`."""
    if not heads.is_v4:
        _U16.pack_into(heads.octets, 4, heads.transport - IPV6_HEAD_OCTETS + transport_octets)
        return
    length, identification = heads.transport + transport_octets, (heads.identification + number) & 0xFFFF
    _TWO_U16.pack_into(heads.octets, 2, length, identification)
    _U16.pack_into(heads.octets, 10, -(heads.ip_sum + length + identification) % 0xFFFF)
