"""Packets on their way between ports and links, many at a time, as one run of octets.

A batch is records one behind the other: how long the packet is, how the kernel's segmentation is to treat it (of a radio's
frame: what the radio knows of it, `wire/radio.py`), and the packet.
That is how a TUN device fills a buffer (virtio_net_hdr and packet in one read) and what a link seals and sends: nothing is
copied or turned into an object on the way. A packet of up to 64 KiB may stand for many on the wire (a super-packet).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from tumpline.errors import MalformedError

OFFLOAD_OCTETS: Final = 10  # struct virtio_net_hdr, little-endian here whatever the machine is
RECORD_HEAD_OCTETS: Final = 4 + OFFLOAD_OCTETS
PACKET_OCTETS_MOST: Final = 65_535
BATCH_OCTETS_MOST: Final = 128 << 10
NO_OFFLOAD: Final = bytes(OFFLOAD_OCTETS)  # a packet as it crosses a wire: whole, with its checksums
_LENGTH: Final = Struct("<I")


class PacketKind(IntEnum):
    """What the octets of a packet are."""

    IP = 0
    FRAME = 1  # IEEE 802.15.4, without its FCS


class Record(NamedTuple):
    """One packet of a batch; both are of the batch's buffer and die with it."""

    offload: memoryview
    packet: memoryview


@dataclass(frozen=True, slots=True)
class PacketBatch:
    """Records of one kind. `octets` belong to whoever made the batch: who keeps some copies them before it returns."""

    kind: PacketKind
    octets: memoryview
    count: int

    def records(self) -> Iterator[Record]:
        """One after the other. The batch is well formed: `batch_untrusted` is for others' octets."""
        octets, at = self.octets, 0
        for _ in range(self.count):
            after = at + 4 + _LENGTH.unpack_from(octets, at)[0]
            yield Record(octets[at + 4 : at + RECORD_HEAD_OCTETS], octets[at + RECORD_HEAD_OCTETS : after])
            at = after


def batch_of(kind: PacketKind, packets: Iterable[bytes | memoryview]) -> PacketBatch:
    """A batch of packets as they cross a wire."""
    return batch_of_records(kind, ((NO_OFFLOAD, packet) for packet in packets))


def batch_of_records(kind: PacketKind, records: Iterable[tuple[bytes | memoryview, bytes | memoryview]]) -> PacketBatch:
    """A batch of (offload, packet)."""
    pieces: list[bytes | memoryview] = []
    count = 0
    for offload, packet in records:
        pieces += (_LENGTH.pack(OFFLOAD_OCTETS + len(packet)), offload, packet)
        count += 1
    return PacketBatch(kind, memoryview(b"".join(pieces)), count)


def batch_untrusted(kind: PacketKind, octets: memoryview) -> PacketBatch:
    """What somebody else put together: every record whole, none empty. Raises: MalformedError."""
    at, end, count = 0, len(octets), 0
    while at < end:
        length = _LENGTH.unpack_from(octets, at)[0] if end - at >= RECORD_HEAD_OCTETS else 0
        if not OFFLOAD_OCTETS < length <= OFFLOAD_OCTETS + PACKET_OCTETS_MOST or length > end - at - 4:
            raise MalformedError(f"packet batch: record {count} at octet {at} of {end} is not whole")
        at += 4 + length
        count += 1
    return PacketBatch(kind, octets, count)
