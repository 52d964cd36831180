"""As much of an IP packet as whoever passes it on must know: its length, and who sends it to whom (RFC 791, RFC 8200)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from tumpline.errors import MalformedError

IPV4_HEAD_OCTETS: Final = 20
IPV6_HEAD_OCTETS: Final = 40
PACKET_OCTETS_MOST: Final = 65_535  # jumbograms (RFC 2675) are not passed on

Address = IPv4Address | IPv6Address


class IpHead(NamedTuple):
    """`source` and `destination` as octets, 4 or 16: quick to look up."""

    version: int
    protocol: int  # next header, for IPv6
    hop_limit: int
    source: bytes
    destination: bytes

    @property
    def is_multicast(self) -> bool:
        """For many: multicast, or IPv4's limited broadcast."""
        first = self.destination[0]
        return first == 0xFF if self.version == 6 else first >> 4 == 14 or self.destination == b"\xff" * 4


def decode_ip_untrusted(packet: bytes | memoryview) -> IpHead:
    """The head of one whole packet. Raises: MalformedError, also where its length is not what it says."""
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        return _decode_ipv4(packet)
    if version == 6:
        return _decode_ipv6(packet)
    raise MalformedError(f"IP: a packet that begins with {bytes(packet[:1]).hex() or 'nothing'}")


def _decode_ipv4(packet: bytes | memoryview) -> IpHead:
    if len(packet) < IPV4_HEAD_OCTETS:
        raise MalformedError(f"IPv4: a packet of {len(packet)} octets")
    head_octets = (packet[0] & 15) * 4  # RFC 791 §3.1: IHL
    total = packet[2] << 8 | packet[3]
    if not IPV4_HEAD_OCTETS <= head_octets <= total or total != len(packet):
        raise MalformedError(f"IPv4: a head of {head_octets} octets and a length of {total} in {len(packet)}")
    return IpHead(4, packet[9], packet[8], bytes(packet[12:16]), bytes(packet[16:20]))


def _decode_ipv6(packet: bytes | memoryview) -> IpHead:
    if len(packet) < IPV6_HEAD_OCTETS:
        raise MalformedError(f"IPv6: a packet of {len(packet)} octets")
    payload = packet[4] << 8 | packet[5]  # RFC 8200 §3
    if payload + IPV6_HEAD_OCTETS != len(packet):
        raise MalformedError(f"IPv6: a payload of {payload} octets in a packet of {len(packet)}")
    return IpHead(6, packet[6], packet[7], bytes(packet[8:24]), bytes(packet[24:40]))


def address_of(octets: bytes) -> Address:
    """As people read it; `octets` are 4 or 16."""
    return IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets)
