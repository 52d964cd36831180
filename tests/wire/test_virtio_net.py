"""Super-packets cut by hand, against a sum that is computed the slow way."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.virtio_net import NEEDS_CSUM, NO_OFFLOAD, GsoType, Offload, decode_offload, split, sum_of

TCP, UDP, HOP_BY_HOP = 6, 17, 0
ADDRESSES = {4: bytes([10, 2, 0, 1, 10, 2, 0, 2]), 6: bytes(range(32))}
ECN_CWR_PSH_FIN_ACK = 0x80 | 0x08 | 0x01 | 0x10


def slow_sum(octets: bytes) -> int:
    """RFC 1071 §4.1, word by word."""
    total = 0
    for at in range(0, len(octets), 2):
        total += int.from_bytes(octets[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(version: int, protocol: int, length: int) -> bytes:
    """RFC 9293 §3.1, RFC 8200 §8.1."""
    return ADDRESSES[version] + (
        struct.pack(">BBH", 0, protocol, length) if version == 4 else struct.pack(">II", length, protocol)
    )


def super_packet(version: int, protocol: int, payload: bytes, size: int, options: bytes = b"") -> tuple[bytes, bytes]:
    """Header and packet as a TUN gives them. `options`: of TCP, or an extension header of IPv6 before UDP."""
    between = options if protocol == UDP and version == 6 else b""
    if protocol == TCP:
        data_offset = (20 + len(options)) // 4 << 4
        head = struct.pack(">HHIIBBHHH", 1, 2, 0xFFFFFF00, 7, data_offset, ECN_CWR_PSH_FIN_ACK, 512, 0, 0) + options
        at, kind = 16, GsoType.TCP4 if version == 4 else GsoType.TCP6
    else:
        head, at, kind = struct.pack(">HHHH", 1, 2, 8 + len(payload), 0), 6, GsoType.UDP
    length = len(head) + len(payload)
    partial = slow_sum(pseudo(version, protocol, length))
    head = head[:at] + partial.to_bytes(2, "big") + head[at + 2 :]
    if version == 4:
        ip = struct.pack(">BBHHHBBH", 0x45, 2, 20 + length, 0xFFFF, 0x4000, 64, protocol, 0xBAD0)
    else:
        ip = struct.pack(">IHBB", 6 << 28, len(between) + length, HOP_BY_HOP if between else protocol, 64)
    ip += ADDRESSES[version] + between
    how = Offload(NEEDS_CSUM, kind, 0, size, len(ip), at)
    return how.encode(), ip + head + payload


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("options", [b"", bytes([17, 0, 1, 4, 0, 0, 0, 0])], ids=["plain", "options"])
@given(data=st.binary(min_size=1, max_size=400), size=st.integers(1, 401))
def test_segments_are_whole(version: int, protocol: int, options: bytes, data: bytes, size: int) -> None:
    offload, packet = super_packet(version, protocol, data, size, options)
    start = decode_offload(offload).csum_start
    segments = split(offload, packet)
    assert len(segments) == -(-len(data) // size)
    came = b""
    for number, segment in enumerate(segments):
        transport, is_last = segment[start:], number == len(segments) - 1
        assert slow_sum(pseudo(version, protocol, len(transport)) + transport) == 0xFFFF
        check_ip(version, segment, number, start)
        if protocol == TCP:
            assert int.from_bytes(transport[4:8], "big") == (0xFFFFFF00 + number * size) % (1 << 32)
            assert transport[13] == 0x10 | (0x80 if number == 0 else 0) | (0x09 if is_last else 0)
            came += transport[20 + len(options) :]
        else:
            assert int.from_bytes(transport[4:6], "big") == len(transport)
            assert transport[6:8] != b"\0\0"
            came += transport[8:]
    assert came == data


def check_ip(version: int, segment: bytes, number: int, start: int) -> None:
    if version == 4:
        assert slow_sum(segment[:20]) == 0xFFFF
        assert int.from_bytes(segment[2:4], "big") == len(segment)
        assert int.from_bytes(segment[4:6], "big") == (0xFFFF + number) & 0xFFFF
    else:
        assert int.from_bytes(segment[4:6], "big") == len(segment) - 40
        assert len(segment) > start


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@given(data=st.binary(max_size=100))
def test_a_packet_that_lacks_its_checksum(version: int, protocol: int, data: bytes) -> None:
    offload, packet = super_packet(version, protocol, data, 1)
    how = decode_offload(offload)._replace(gso_type=0, gso_size=0)
    (whole,) = split(how.encode(), memoryview(packet))
    transport = whole[how.csum_start :]
    assert slow_sum(pseudo(version, protocol, len(transport)) + transport) == 0xFFFF
    assert whole[: how.csum_start] == packet[: how.csum_start]


def test_a_checksum_of_zero_is_written_otherwise() -> None:
    for value in range(0x10000):  # of all words at one place, one makes the sum what it is not to be
        offload, packet = super_packet(4, UDP, value.to_bytes(2, "big"), 2)
        (whole,) = split(offload, packet)
        if whole[26:28] == b"\xff\xff":
            return
    raise AssertionError("no checksum was zero")


def test_whole_packets_stay_as_they_are() -> None:
    assert split(NO_OFFLOAD, memoryview(b"packet")) == [b"packet"]
    assert split(Offload(flags=2).encode(), b"checked") == [b"checked"]


@given(st.binary(max_size=80))
def test_the_sum(octets: bytes) -> None:
    assert sum_of(octets) % 0xFFFF == slow_sum(octets) % 0xFFFF


TCP4 = decode_offload(super_packet(4, TCP, b"x" * 100, 10)[0])


@pytest.mark.parametrize(
    "how",
    [
        TCP4._replace(flags=0),
        TCP4._replace(gso_type=3),
        TCP4._replace(gso_type=9),
        TCP4._replace(gso_type=GsoType.TCP6),
        TCP4._replace(gso_type=GsoType.UDP),
        TCP4._replace(gso_size=0),
        TCP4._replace(csum_start=0),
        TCP4._replace(csum_start=24),
        TCP4._replace(csum_start=65_535),
        TCP4._replace(csum_offset=6),
        TCP4._replace(gso_type=0, csum_start=138, csum_offset=1),
    ],
    ids=str,
)
def test_what_no_kernel_gives(how: Offload) -> None:
    _, packet = super_packet(4, TCP, b"x" * 100, 10)
    with pytest.raises(MalformedError):
        split(how.encode(), packet)


def test_heads_that_are_none() -> None:
    offload, packet = super_packet(4, TCP, b"x" * 100, 10)
    for wrong in (b"", packet[:39], packet[:40], b"\x46" + packet[1:], packet[:32] + b"\x40" + packet[33:]):
        with pytest.raises(MalformedError):
            split(offload, wrong)
    with pytest.raises(MalformedError):  # 65,000 packets of one
        split(TCP4._replace(gso_size=1).encode(), packet + bytes(60_000))


@given(st.binary(min_size=10, max_size=10), st.binary(max_size=120))
def test_strangers(offload: bytes, packet: bytes) -> None:
    try:
        segments = split(offload, packet)
    except MalformedError:
        return
    assert sum(map(len, segments)) >= len(packet)
