"""Super-packets as another member might send them: a header of the kernel's segmentation, then the packet."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.errors import MalformedError
from tumpline.wire.virtio_net import NEEDS_CSUM, OFFLOAD_OCTETS, SEGMENTS_MOST, GsoType, Offload, split

_PAYLOAD = bytes(range(256)) * 8
_TCP = bytes([0, 80, 4, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x99, 1, 0, 0x12, 0x34, 0, 0])
_UDP = bytes([0, 80, 4, 0, 8, 8, 0x12, 0x34])
_IPV4 = bytes([0x45, 0, 8, 0x28, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 2, 0, 1, 10, 2, 0, 2])
_IPV6 = bytes([0x60, 0, 0, 0, 8, 20, 6, 64]) + bytes(range(32))


def seeds() -> list[bytes]:
    """Each kind of super-packet, and a packet that only lacks its checksum."""
    kinds = [
        (GsoType.TCP4, _IPV4, _TCP, 16),
        (GsoType.TCP6, _IPV6, _TCP, 16),
        (GsoType.UDP, _IPV4, _UDP, 6),
        (GsoType.UDP, _IPV6, _UDP, 6),
        (GsoType.NONE, _IPV4, _UDP, 6),
    ]
    return [
        Offload(NEEDS_CSUM, kind, 0, 100, len(ip), offset).encode() + ip + transport + _PAYLOAD
        for kind, ip, transport, offset in kinds
    ]


def run(data: bytes) -> bool:
    """No more packets than were allowed, and together they hold all of it."""
    packet = data[OFFLOAD_OCTETS:]
    if len(data) < OFFLOAD_OCTETS:
        return False
    try:
        packets = split(data[:OFFLOAD_OCTETS], memoryview(packet))
    except MalformedError:
        return False
    assert 0 < len(packets) <= SEGMENTS_MOST, "too many packets"
    assert sum(map(len, packets)) >= len(packet), "something is missing"
    return True


# Up to 2048 packets, each of some 330 octets of heads and 50 of Python's.
TARGET = Target("virtio_net", "super-packets of a TUN device", seeds, run, peak_base=1 << 20, peak_factor=8)
