"""Capturing what older agents publish in a session, from the broker: a listener that is no member.

What our own members send each other is sealed, and not captured here: they capture it themselves (`--dump`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tumpline.drivers.amqp import AmqpConnection, AmqpUrl, Delivery, KeptConnection
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import MalformedError
from tumpline.machines.packets import PacketKind, batch_of
from tumpline.node.overlay.dump import Dump, DumpConfig
from tumpline.wire.agent_json import ControlKind, control_kind_of, decode_control_untrusted
from tumpline.wire.agent_keys import SESSION_CONTROL, TERMINATE, Direction, Topic, read_agent_key
from tumpline.wire.packet_json import decode_packet_untrusted
from tumpline.wire.pcapng import Direction as Way

BINDINGS: Final = ("#.fromAgent.#", TERMINATE, SESSION_CONTROL)
# What waits while the disk is slow; the oldest go first.
QUEUE_ARGUMENTS: Final = {"x-max-length": 1000, "x-max-length-bytes": 32 << 20, "x-overflow": "drop-head"}
NAMES_MOST: Final = 256  # of agents, each an interface of the capture; the others share one
_KINDS: Final = {Topic.IP_PACKET: PacketKind.IP, Topic.FRAME: PacketKind.FRAME}


@dataclass(slots=True)
class Counts:
    """Of messages."""

    packets: int = 0
    malformed: int = 0


class SessionDump:
    """`run` until somebody says that the test is over (testingtool.terminate), or `stop`."""

    def __init__(self, url: AmqpUrl, exchange: str, path: Path) -> None:
        """Raises: ConfigError."""
        self.counts = Counts()
        self._exchange = exchange
        self._names: set[str] = set()
        self._terminated = asyncio.Event()
        self._failure: BaseException | None = None
        self._dump = Dump(DumpConfig(path))
        self._kept = KeptConnection(url, "tumpline packet dumper", self._set_up, lambda *_: None)

    async def run(self) -> None:
        """Raises: AmqpError that trying again cannot mend."""
        tasks = TaskOwner(self._failed)
        try:
            tasks.start(self._kept.run(), "packet dumper")
            await self._terminated.wait()
        finally:
            await tasks.stop()
            self._dump.close()
        if self._failure is not None:
            raise self._failure

    def _failed(self, _: str, error: BaseException) -> None:
        self._failure = error
        self.stop()

    def stop(self) -> None:
        """Let `run` end."""
        self._terminated.set()

    async def _set_up(self, connection: AmqpConnection) -> None:
        channel = await connection.channel()
        declared = await channel.declare_queue(exclusive=True, auto_delete=True, arguments=dict(QUEUE_ARGUMENTS))
        for key in BINDINGS:
            await channel.bind(declared.name, self._exchange, key)
        await channel.consume(declared.name, self._received, no_ack=True)

    def _received(self, deliveries: Sequence[Delivery]) -> None:
        for each in deliveries:
            if each.routing_key in (TERMINATE, SESSION_CONTROL):
                self._control(each)
            else:
                self._capture(each)

    def _control(self, delivery: Delivery) -> None:
        """Version 0 says many things under one key."""
        try:
            kind, _ = decode_control_untrusted(delivery.body, control_kind_of(delivery.routing_key, None))
        except MalformedError:
            self.counts.malformed += 1
            return
        if kind is ControlKind.TERMINATE:
            self.stop()

    def _capture(self, delivery: Delivery) -> None:
        key = read_agent_key(delivery.routing_key)
        kind = _KINDS.get(key.topic) if key is not None and key.direction is Direction.FROM_AGENT else None
        if key is None or kind is None:
            return
        try:
            packet, _, _ = decode_packet_untrusted(delivery.body)
        except MalformedError:
            self.counts.malformed += 1
            return
        self.counts.packets += 1
        self._dump.packets(batch_of(kind, [packet.data]), Way.INBOUND, self._interface_of(key.name))

    def _interface_of(self, name: str) -> str:
        if len(self._names) < NAMES_MOST:
            self._names.add(name)
        return name if name in self._names else "others"
