"""An older packet agent: it says when it starts, sends all to everybody, and hears what is for it."""

from __future__ import annotations

from collections.abc import Sequence

from tumpline.errors import MalformedError
from tumpline.machines.amqp_client import Delivery
from tumpline.testing.overlay_world.client import Arrived, SimClient
from tumpline.testing.overlay_world.line import LineSpec, SimBroker
from tumpline.testing.world import World
from tumpline.wire.agent_json import ControlKind, Tun, encode_control
from tumpline.wire.agent_keys import Direction, Topic, control_key, packet_key
from tumpline.wire.amqp import Properties
from tumpline.wire.amqp import methods as m
from tumpline.wire.packet_json import Generation, Kind, Packet, decode_packet_untrusted, encode_packet

JSON = Properties(content_type="application/json", content_encoding="utf-8")


def older_queue(name: str, generation: Generation) -> str:
    """The queue from which an agent of that name reads packets."""
    v1 = f"consumer: {name}.tun?rkey=toAgent.{name}.ip.tun.packet.raw"
    return v1 if generation is Generation.V1 else f"data.tun@{name}"


class SimOlder(SimClient):
    """Its address is bbbb::HOST."""

    def __init__(
        self, world: World, broker: SimBroker, name: str, line: LineSpec, generation: Generation, host: str
    ) -> None:
        super().__init__(world, broker, name, line)
        self.generation = generation
        self.address = f"bbbb::{host}"
        self._host = host

    def queue(self) -> m.QueueDeclare:
        """See `SimClient`."""
        return m.QueueDeclare(queue=older_queue(self.name, self.generation), auto_delete=True)

    def keys(self) -> Sequence[str]:
        """See `SimClient`."""
        return (packet_key(self.generation, Direction.TO_AGENT, self.name, Topic.IP_PACKET),)

    def joined(self) -> None:
        """See `SimClient`."""
        key = control_key(self.generation, Direction.FROM_AGENT, self.name, Topic.TUN_STARTED)
        body = encode_control(ControlKind.TUN_STARTED, Tun(self.name, "bbbb", self._host), self.generation)
        self.publish(key, (body,), JSON, False)

    def delivered(self, deliveries: Sequence[Delivery]) -> None:
        """See `SimClient`. An older agent's process dies of what it does not understand."""
        for delivery in deliveries:
            try:
                packet, generation, kind = decode_packet_untrusted(delivery.body)
            except MalformedError as error:
                raise self.world.broken(f"{self.name} would have died of a message: {error}") from error
            if generation is not self.generation or (generation is Generation.V0 and kind is not Kind.INJECT):
                raise self.world.broken(f"{self.name} was sent {generation} {kind}")
            self.arrived.append(Arrived(self.name, packet.data, self.world.now))

    def send(self, *packets: bytes) -> None:
        """These come out of its interface."""
        key = packet_key(self.generation, Direction.FROM_AGENT, self.name, Topic.IP_PACKET)
        for packet in packets:
            body = encode_packet(Packet(packet, "tun0", self.world.now), self.generation, Kind.SNIFFED)
            self.publish(key, (body,), JSON, False)
        self.turn()
