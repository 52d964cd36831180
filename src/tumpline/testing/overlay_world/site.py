"""A site: one member with a port of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tumpline.machines.amqp_client import Delivery
from tumpline.machines.overlay import BindingsChanged, Event, Member, MemberConfig, Publish, ToPort
from tumpline.machines.packets import PacketBatch, PacketKind, batch_of
from tumpline.testing.overlay_world.client import Arrived, SimClient
from tumpline.testing.overlay_world.line import Line, LineSpec, SimBroker
from tumpline.testing.overlay_world.older import older_queue
from tumpline.testing.world import World
from tumpline.wire.amqp import methods as m
from tumpline.wire.overlay import Claim
from tumpline.wire.packet_json import Generation

QUEUE_ARGUMENTS: Final = {"x-max-length": 1000, "x-max-length-bytes": 32 << 20, "x-overflow": "drop-head"}
LOOK_S: Final = 30.0  # how often it is looked whether older agents still have queues


class SimSite(SimClient):
    """Each start is another instance."""

    def __init__(self, world: World, broker: SimBroker, config: MemberConfig, line: LineSpec) -> None:
        super().__init__(world, broker, config.name, line)
        self.config = config
        self.member: Member | None = None
        self.events: list[Event] = []
        self._starts = 0
        self._timer_at = float("inf")

    def prepare(self) -> None:
        """A new instance; with another identity, if it kept none."""
        self._starts += 1
        chance = self.world.chance(f"start {self._starts} of {self.name}")
        kept = self.config.identity if chance.random() < 0.7 else chance.randbytes(32)
        instance, started_ms = chance.randbytes(8), self.world.dtn_ms()
        self.config = self.config._replace(instance=instance, started_ms=started_ms, identity=kept)
        self.member = Member(self.config)

    def stop(self) -> None:
        """Ctrl-C: it says goodbye."""
        if self.is_joined and self.member is not None:
            self.member.leave(self.world.now)
            self.turn()
        super().stop()

    def _end(self) -> Line | None:
        self.member = None
        return super()._end()

    # ---- SimClient ---------------------------------------------------------------------------------------------------

    def queue(self) -> m.QueueDeclare:
        """See `SimClient`."""
        name = f"tumpline.member.{self.name}"
        return m.QueueDeclare(queue=name, exclusive=True, auto_delete=True, arguments=QUEUE_ARGUMENTS)

    def keys(self) -> Sequence[str]:
        """See `SimClient`."""
        return () if self.member is None else self.member.bindings()

    def joined(self) -> None:
        """See `SimClient`."""
        if self.member is not None:
            self.member.joined(self.world.now)
            self._look_for_older(self.member, self.joined_at)

    def left(self) -> None:
        """See `SimClient`."""
        if self.member is not None:
            self.member.left(self.world.now)
            self.turn()

    def delivered(self, deliveries: Sequence[Delivery]) -> None:
        """See `SimClient`."""
        if self.member is not None:
            self.member.received(deliveries, self.world.now)

    def returned(self, routing_key: str) -> None:
        """See `SimClient`."""
        if self.member is not None:
            self.member.returned(routing_key, self.world.now)

    def turn(self) -> None:
        """Do what the member wants done."""
        if self.member is None:
            return
        for output in self.member.outputs():
            if isinstance(output, Publish):
                self.publish(*output)
            elif isinstance(output, ToPort):
                self._to_port(output.batch)
            else:
                self.events.append(output)
                if isinstance(output, BindingsChanged):
                    self.bind(output.add)
                    self.unbind(output.remove)
        super().turn()
        self._arm()

    # ---- packets -----------------------------------------------------------------------------------------------------

    def send(self, *packets: bytes) -> None:
        """These come out of the port; lost while there is no session."""
        if self.is_joined and self.member is not None:
            self.member.from_port(batch_of(PacketKind.IP, packets), self.world.now)
            self.turn()

    def set_addresses(self, addresses: tuple[Claim, ...]) -> None:
        """The port has others."""
        self.config = self.config._replace(addresses=addresses)
        if self.member is not None:
            self.member.set_addresses(addresses, self.world.now)
            self.turn()

    def _to_port(self, batch: PacketBatch) -> None:
        self.arrived += [Arrived(self.name, bytes(record.packet), self.world.now) for record in batch.records()]

    # ---- time --------------------------------------------------------------------------------------------------------

    def _look_for_older(self, member: Member, joined_at: float | None) -> None:
        if self.member is not member or self.joined_at != joined_at:
            return
        for name in member.older_names():
            if not any(older_queue(name, generation) in self.broker.queues for generation in Generation):
                member.older_gone(name, self.world.now)
        self.turn()
        self.world.after(LOOK_S, lambda: self._look_for_older(member, joined_at))

    def _arm(self) -> None:
        at = None if self.member is None else self.member.next_timeout()
        if at is not None and at < self._timer_at:
            self._timer_at = at
            self.world.at(max(at, self.world.now), lambda: self._expired(at))

    def _expired(self, at: float) -> None:
        if at != self._timer_at:
            return
        self._timer_at = float("inf")
        if self.member is not None:
            self.member.handle_timeout(self.world.now)
            after = self.member.next_timeout()
            if after is not None and after <= self.world.now:
                raise self.world.broken(f"{self.name} does not act on its deadline")
            self.turn()
