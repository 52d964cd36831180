"""Heads of IP packets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.ip_packet import IpHead, address_of, decode_ip_untrusted


def ipv4(destination: str, payload: bytes = b"", first: int = 0x45) -> bytes:
    head = bytes([first, 0]) + (20 + len(payload)).to_bytes(2, "big") + bytes(4) + bytes([64, 17, 0, 0])
    return head + IPv4Address("192.0.2.1").packed + IPv4Address(destination).packed + payload


def ipv6(destination: str, payload: bytes = b"") -> bytes:
    head = b"\x60\0\0\0" + len(payload).to_bytes(2, "big") + bytes([58, 255])
    return head + IPv6Address("2001:db8::1").packed + IPv6Address(destination).packed + payload


def test_who_sends_what_to_whom() -> None:
    head = decode_ip_untrusted(ipv4("192.0.2.2", b"x"))
    assert head == IpHead(4, 17, 64, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
    assert str(address_of(head.destination)) == "192.0.2.2"
    head = decode_ip_untrusted(memoryview(ipv6("2001:db8::2", b"xy")))
    assert (head.version, head.protocol, head.hop_limit) == (6, 58, 255)
    assert [str(address_of(each)) for each in (head.source, head.destination)] == ["2001:db8::1", "2001:db8::2"]


@pytest.mark.parametrize(
    ("packet", "is_multicast"),
    [
        (ipv4("224.0.1.187"), True),
        (ipv4("239.255.255.255"), True),
        (ipv4("255.255.255.255"), True),
        (ipv4("240.0.0.1"), False),
        (ipv4("192.0.2.255"), False),
        (ipv6("ff02::fd"), True),
        (ipv6("fe80::1"), False),
    ],
)
def test_what_is_for_many(packet: bytes, is_multicast: bool) -> None:
    assert decode_ip_untrusted(packet).is_multicast is is_multicast


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x50",
        ipv4("192.0.2.2")[:19],
        ipv4("192.0.2.2", b"x")[:-1],
        ipv4("192.0.2.2") + b"x",
        ipv4("192.0.2.2", first=0x44),
        ipv4("192.0.2.2", first=0x46),
        ipv6("::1")[:39],
        ipv6("::1", b"x")[:-1],
        ipv6("::1") + b"x",
    ],
)
def test_malformed_packets(packet: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_ip_untrusted(packet)


@given(st.binary(max_size=80))
def test_any_octets(packet: bytes) -> None:
    try:
        head = decode_ip_untrusted(packet)
    except MalformedError:
        return
    assert head.version in (4, 6)
