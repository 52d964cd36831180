"""A site: one member on one connection that it keeps, with a port of memory."""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.machines.amqp_client import Answered, ChannelEnded, Delivered, Ended, Opened, Returned
from tumpline.machines.backoff import Backoff
from tumpline.machines.overlay import BindingsChanged, Event, Member, MemberConfig, Publish, ToPort
from tumpline.machines.packets import PacketBatch, PacketKind, batch_of
from tumpline.testing.overlay_world.line import Line, LineSpec, SimBroker
from tumpline.testing.world import World
from tumpline.wire.amqp import methods as m
from tumpline.wire.overlay import Claim

EXCHANGE: Final = "amq.topic"
QUEUE_ARGUMENTS: Final = {"x-max-length": 1000, "x-max-length-bytes": 32 << 20, "x-overflow": "drop-head"}
REDIAL_CAP_S: Final = 8.0


class Arrived(NamedTuple):
    """A packet was written into the port."""

    site: str
    packet: bytes
    at: float


class SimSite:
    """Starts and stops like a process: `start`, `stop` (in order), `crash` (its sockets are closed), `vanish` (not even that)."""

    def __init__(self, world: World, broker: SimBroker, config: MemberConfig, line: LineSpec) -> None:
        self.world = world
        self.broker = broker
        self.config = config
        self.line_spec = line
        self.line: Line | None = None
        self.member: Member | None = None
        self.is_running = False
        self.joined_at: float | None = None
        self.gone_at = 0.0  # since when nobody of this name is in the session
        self.arrived: list[Arrived] = []
        self.events: list[Event] = []
        self._backoff = Backoff(world.chance(f"back-off of {config.name}").random, 0.25, REDIAL_CAP_S)
        self._starts = 0
        self._timer_at = float("inf")
        self._channel = 0

    @property
    def name(self) -> str:
        """Of the member."""
        return self.config.name

    @property
    def is_joined(self) -> bool:
        """Whether it is a member now."""
        return self.joined_at is not None

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self, identity: bytes | None = None) -> None:
        """A new process with a new instance; with another identity, if it kept none. Idempotent."""
        if self.is_running:
            return
        self._starts += 1
        instance = self.world.chance(f"instance {self._starts} of {self.name}").randbytes(8)
        started_ms = self.world.dtn_ms()
        kept = self.config.identity if identity is None else identity
        self.config = self.config._replace(instance=instance, started_ms=started_ms, identity=kept)
        self.member = Member(self.config)
        self.is_running = True
        self._tell("starts")
        self._dial()

    def stop(self) -> None:
        """Ctrl-C."""
        self._tell("stops")
        if self.is_joined and self.member is not None:
            self.member.leave(self.world.now)
            self.turn()
        line = self._end()
        if line is not None:
            line.hang_up()

    def crash(self) -> None:
        """kill -9: the kernel closes the socket."""
        self._tell("crashes")
        line = self._end()
        if line is not None:
            line.reset()

    def vanish(self) -> None:
        """Power loss."""
        self._tell("vanishes")
        line = self._end()
        if line is not None:
            line.vanish()

    def _end(self) -> Line | None:
        line, self.line = self.line, None
        self.is_running, self.member = False, None
        self._left()
        return line

    def _left(self) -> None:
        if self.joined_at is not None:
            self.joined_at, self.gone_at = None, self.world.now

    # ---- the session -------------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        if not self.is_running or self.line is not None:
            return
        member = self.member
        try:
            self.line = Line(
                self.broker, self.name, self.line_spec, lambda: self._came(member), lambda why: self._lost(member, why)
            )
        except ConnectionRefusedError:
            self._redial()

    def _redial(self) -> None:
        self.world.after(self._backoff.next_delay_s(), self._dial)

    def _lost(self, member: Member | None, reason: str) -> None:
        if member is not self.member or member is None:
            return
        self._tell(f"lost its connection: {reason}")
        self.line = None
        if self.is_joined:
            self._left()
            member.left(self.world.now)
            self.turn()
        self._redial()

    def _came(self, member: Member | None) -> None:
        line = self.line
        if member is not self.member or line is None:
            return
        for event in line.client.events():
            if isinstance(event, Opened):
                self._channel = line.client.open_channel()
            elif isinstance(event, Answered):
                self._answered(line, event.method)
            elif isinstance(event, Delivered) and self.member is not None:
                self.member.received(event.deliveries, self.world.now)
            elif isinstance(event, Returned) and self.member is not None:
                self.member.returned(event.message.routing_key, self.world.now)
            elif isinstance(event, ChannelEnded):  # 405: the broker has not noticed that we were gone
                line.client.close(self.world.now)
            elif isinstance(event, Ended):
                line.reset()
        self.turn()

    def _answered(self, line: Line, method: m.Method) -> None:
        queue = f"tumpline.member.{self.name}"
        if isinstance(method, m.ChannelOpenOk):
            declare = m.QueueDeclare(queue=queue, exclusive=True, auto_delete=True, arguments=QUEUE_ARGUMENTS)
            line.client.ask(self._channel, declare)
        elif isinstance(method, m.QueueDeclareOk) and self.member is not None:
            self._bind(line, self.member.bindings())
            line.client.ask(self._channel, m.BasicConsume(queue=queue, no_ack=True, exclusive=True))
        elif isinstance(method, m.BasicConsumeOk) and self.member is not None:
            self._backoff.reset()
            self.joined_at = self.world.now
            self._tell("joins")
            self.member.joined(self.world.now)

    def _bind(self, line: Line, keys: tuple[str, ...]) -> None:
        for key in keys:
            bind = m.QueueBind(queue=f"tumpline.member.{self.name}", exchange=EXCHANGE, routing_key=key)
            line.client.ask(self._channel, bind)

    def _rebind(self, line: Line, change: BindingsChanged) -> None:
        self._bind(line, change.add)
        for key in change.remove:
            unbind = m.QueueUnbind(queue=f"tumpline.member.{self.name}", exchange=EXCHANGE, routing_key=key)
            line.client.ask(self._channel, unbind)

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

    def turn(self) -> None:
        """Do what the member wants done."""
        if self.member is None:
            return
        line = self.line
        for output in self.member.outputs():
            if isinstance(output, Publish):
                if line is not None and self.is_joined:
                    key, pieces, properties, is_mandatory = output
                    line.client.publish(self._channel, EXCHANGE, key, pieces, properties, is_mandatory)
            elif isinstance(output, ToPort):
                self._to_port(output.batch)
            else:
                self.events.append(output)
                if isinstance(output, BindingsChanged) and line is not None and self.is_joined:
                    self._rebind(line, output)
        if line is not None:
            line.from_client()
        self._arm()

    def _to_port(self, batch: PacketBatch) -> None:
        self.arrived += [Arrived(self.name, bytes(record.packet), self.world.now) for record in batch.records()]

    def _arm(self) -> None:
        at = None if self.member is None else self.member.next_timeout()
        if at is not None and at < self.world.now - 1e-9 and self._timer_at == float("inf"):
            raise self.world.broken(f"a deadline of {self.name} lies {self.world.now - at:.6f} s in the past")
        if at is not None and at < self._timer_at:
            self._timer_at = at
            self.world.at(max(at, self.world.now), lambda: self._expired(at))

    def _expired(self, at: float) -> None:
        if at != self._timer_at:
            return
        self._timer_at = float("inf")
        if self.member is not None:
            self.member.handle_timeout(self.world.now)
            self.turn()

    def _tell(self, what: str) -> None:
        self.world.tell(self.name, self.name, what)
