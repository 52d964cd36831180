"""Packets for older agents: one a message, each whole and with its checksums, as a wire would carry it."""

from __future__ import annotations

from typing import Final, Protocol

from tumpline.errors import MalformedError
from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.packets import PacketBatch, PacketKind, Record
from tumpline.wire.agent_keys import Direction, Topic, packet_key
from tumpline.wire.amqp.content import Properties
from tumpline.wire.packet_json import Generation, Kind, Packet, encode_packet
from tumpline.wire.slip import encode_slip
from tumpline.wire.virtio_net import split

# Without the first, agents of version 1 do not read the body.
PROPERTIES: Final = Properties(content_type="application/json", content_encoding="utf-8")
TOPICS: Final = {PacketKind.IP: Topic.IP_PACKET, PacketKind.FRAME: Topic.FRAME}
_INTERFACES: Final = {PacketKind.IP: "tun0", PacketKind.FRAME: "serial"}


def key_of(generation: Generation, direction: Direction, name: str, kind: PacketKind) -> str:
    """Under which packets go; `name` may be `*`, for a binding."""
    return packet_key(generation, direction, name, TOPICS[kind])


class Counting(Protocol):
    """A member's counters, or a router's."""

    malformed: int


class OlderPackets:
    """Writes them."""

    def __init__(self, config: MemberConfig, counters: Counting) -> None:
        self._started_s = config.started_ms / 1000
        self._first_at: float | None = None
        self.properties = PROPERTIES
        self._counters = counters

    def packets_of(self, batch: PacketBatch) -> list[bytes]:
        """Those of a batch, super-packets taken apart. What a radio knows of a frame they cannot be told."""
        if batch.kind is PacketKind.FRAME:
            return [bytes(record.packet) for record in batch.records()]
        return [packet for record in batch.records() for packet in self._split(record)]

    def _split(self, record: Record) -> list[bytes]:
        try:
            return split(record.offload, record.packet)
        except MalformedError:  # nothing that a TUN device gives; other ports may pass on what strangers made
            self._counters.malformed += 1
            return []

    def encode(
        self, packet: bytes | memoryview, kind: PacketKind, generation: Generation, direction: Direction, now: float
    ) -> bytes:
        """The body of a message."""
        octets = bytes(packet)
        slip = encode_slip(octets) if kind is PacketKind.FRAME else None  # older dumpers read frames from it alone
        said = Kind.SNIFFED if direction is Direction.FROM_AGENT else Kind.INJECT
        return encode_packet(Packet(octets, _INTERFACES[kind], self._time_s(now), slip), generation, said)

    def _time_s(self, now: float) -> float:
        """Since 1970, as far as the clock at the start was right."""
        if self._first_at is None:
            self._first_at = now
        return self._started_s + now - self._first_at
