"""Packets for older agents: one a message, each whole and with its checksums, as a wire would carry it."""

from __future__ import annotations

from typing import Final

from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.packets import NO_OFFLOAD, PacketBatch, PacketKind
from tumpline.wire.amqp.content import Properties
from tumpline.wire.older_keys import Direction
from tumpline.wire.packet_json import Generation, Kind, Packet, encode_packet
from tumpline.wire.slip import encode_slip

# Without the first, agents of version 1 do not read the body.
PROPERTIES: Final = Properties(content_type="application/json", content_encoding="utf-8")
_INTERFACES: Final = {PacketKind.IP: "tun0", PacketKind.FRAME: "serial"}


class OlderPackets:
    """Writes them."""

    def __init__(self, config: MemberConfig) -> None:
        self._started_s = config.started_ms / 1000
        self._first_at: float | None = None
        self.properties = PROPERTIES

    def packets_of(self, batch: PacketBatch) -> list[bytes | memoryview]:
        """Those of a batch, super-packets taken apart."""
        return [record.packet for record in batch.records() if record.offload == NO_OFFLOAD]

    def encode(
        self, packet: bytes | memoryview, kind: PacketKind, generation: Generation, direction: Direction, now: float
    ) -> bytes:
        """The body of a message."""
        octets = bytes(packet)
        slip = encode_slip(octets) if kind is PacketKind.FRAME else None  # older dumpers read frames from it alone
        said = Kind.SNIFFED if direction is Direction.FROM else Kind.INJECT
        return encode_packet(Packet(octets, _INTERFACES[kind], self._time_s(now), slip), generation, said)

    def _time_s(self, now: float) -> float:
        """Since 1970, as far as the clock at the start was right."""
        if self._first_at is None:
            self._first_at = now
        return self._started_s + now - self._first_at
