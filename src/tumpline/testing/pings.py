"""Echo requests and replies as whole IP packets (RFC 792, RFC 4443): for members without a kernel behind them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import pack, unpack
from typing import Final, NamedTuple

Address = IPv4Address | IPv6Address
ICMP: Final = 1
ICMPV6: Final = 58
HOP_LIMIT: Final = 64
_TYPES: Final = {4: (8, 0), 6: (128, 129)}  # by IP version: echo request, echo reply


class Echo(NamedTuple):
    """One of either kind."""

    source: Address
    destination: Address
    is_reply: bool
    identifier: int
    sequence: int
    payload: bytes = b""


def encode_echo(echo: Echo) -> bytes:
    """The packet, with its checksums."""
    version = echo.source.version
    kind = _TYPES[version][echo.is_reply]
    body = pack(">BBHHH", kind, 0, 0, echo.identifier, echo.sequence) + echo.payload
    if version == 6:
        ends = echo.source.packed + echo.destination.packed
        checksum = _checksum(ends + pack(">II", len(body), ICMPV6) + body)  # RFC 4443 §2.3: with the pseudo-header
        head = pack(">IHBB", 6 << 28, len(body), ICMPV6, HOP_LIMIT) + ends
    else:
        checksum = _checksum(body)
        head = _ipv4_head(echo, 20 + len(body))
    return head + body[:2] + pack(">H", checksum) + body[4:]


def decode_echo(packet: bytes) -> Echo | None:
    """None: something else. Checksums are verified: a wrong one is something else too."""
    if len(packet) >= 48 and packet[0] >> 4 == 6 and packet[6] == ICMPV6:
        source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
        body = packet[40:]
        summed = packet[8:40] + pack(">II", len(body), ICMPV6) + body
    elif len(packet) >= 28 and packet[0] == 0x45 and packet[9] == ICMP:
        return _decode(packet[20:], packet[20:], IPv4Address(packet[12:16]), IPv4Address(packet[16:20]))
    else:
        return None
    return _decode(body, summed, source, destination)


def reply_to(packet: bytes, addresses: frozenset[Address]) -> bytes | None:
    """The answer of a host that has these addresses; None: it says nothing."""
    echo = decode_echo(packet)
    if echo is None or echo.is_reply or echo.destination not in addresses:
        return None
    return encode_echo(echo._replace(source=echo.destination, destination=echo.source, is_reply=True))


def _decode(body: bytes, summed: bytes, source: Address, destination: Address) -> Echo | None:
    kinds = _TYPES[source.version]
    if body[0] not in kinds or _checksum(summed) != 0:
        return None
    identifier, sequence = unpack(">HH", body[4:8])
    return Echo(source, destination, body[0] == kinds[1], identifier, sequence, body[8:])


def _ipv4_head(echo: Echo, octets: int) -> bytes:
    head = pack(">BBHHHBBH", 0x45, 0, octets, 0, 0, HOP_LIMIT, ICMP, 0) + echo.source.packed + echo.destination.packed
    return head[:10] + pack(">H", _checksum(head)) + head[12:]


def _checksum(octets: bytes) -> int:
    """RFC 1071: of a run that has its checksum in it, zero."""
    total: int = sum(unpack(f">{(len(octets) + 1) // 2}H", octets + b"\0" * (len(octets) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
