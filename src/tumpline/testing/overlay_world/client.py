"""Clients of the broker in virtual time, each on one connection that it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tumpline.machines.amqp_client import Answered, ChannelEnded, Delivered, Delivery, Ended, Opened, Returned
from tumpline.machines.backoff import Backoff
from tumpline.testing.overlay_world.line import Line, LineSpec, SimBroker
from tumpline.testing.world import World
from tumpline.wire.amqp import Properties
from tumpline.wire.amqp import methods as m

EXCHANGE: Final = "amq.topic"
REDIAL_CAP_S: Final = 8.0


class Arrived(NamedTuple):
    """A packet was written into the port."""

    site: str
    packet: bytes
    at: float


class SimClient:
    """Starts and stops like a process: `start`, `stop` (in order), `crash` (its sockets are closed), `vanish` (not even that).

    Who it is follows from `queue`, `keys`, `joined`, `left`, `delivered`, `returned` and `turn`."""

    def __init__(self, world: World, broker: SimBroker, name: str, line: LineSpec) -> None:
        self.world = world
        self.broker = broker
        self.name = name
        self.line: Line | None = None
        self.is_running = False
        self.joined_at: float | None = None
        self.gone_at = 0.0  # since when nobody of this name is in the session
        self.arrived: list[Arrived] = []
        self._line_spec = line
        self._backoff = Backoff(world.chance(f"back-off of {name}").random, 0.25, REDIAL_CAP_S)
        self._channel = 0
        self._life = 0  # what is told to an earlier process concerns nobody

    # ---- who it is ---------------------------------------------------------------------------------------------------

    def queue(self) -> m.QueueDeclare:
        """What it reads from."""
        raise NotImplementedError

    def keys(self) -> Sequence[str]:
        """What that is bound to."""
        raise NotImplementedError

    def joined(self) -> None:
        """It reads."""

    def left(self) -> None:
        """The connection is lost."""

    def delivered(self, deliveries: Sequence[Delivery]) -> None:
        """Messages came."""

    def returned(self, routing_key: str) -> None:
        """One found no queue."""

    def turn(self) -> None:
        """Do what is to be done."""
        if self.line is not None:
            self.line.from_client()

    # ---- life --------------------------------------------------------------------------------------------------------

    @property
    def is_joined(self) -> bool:
        """Whether it is in the session now."""
        return self.joined_at is not None

    def start(self) -> None:
        """A new process. Idempotent."""
        if not self.is_running:
            self.prepare()
            self._life += 1
            self.is_running = True
            self.tell("starts")
            self._dial()

    def prepare(self) -> None:
        """A new process begins."""

    def stop(self) -> None:
        """Ctrl-C."""
        self.tell("stops")
        line = self._end()
        if line is not None:
            line.hang_up()

    def crash(self) -> None:
        """kill -9: the kernel closes the socket."""
        self.tell("crashes")
        line = self._end()
        if line is not None:
            line.reset()

    def vanish(self) -> None:
        """Power loss."""
        self.tell("vanishes")
        line = self._end()
        if line is not None:
            line.vanish()

    def tell(self, what: str) -> None:
        """For the chart of a failure."""
        self.world.tell(self.name, self.name, what)

    def _end(self) -> Line | None:
        line, self.line = self.line, None
        self.is_running = False
        self._life += 1
        self._gone()
        return line

    def _gone(self) -> None:
        if self.joined_at is not None:
            self.joined_at, self.gone_at = None, self.world.now

    # ---- the connection ----------------------------------------------------------------------------------------------

    def publish(
        self, key: str, pieces: Sequence[bytes | memoryview], properties: Properties | None, is_mandatory: bool
    ) -> None:
        """Into the session; lost while there is none."""
        if self.line is not None and self.is_joined:
            self.line.client.publish(self._channel, EXCHANGE, key, pieces, properties, is_mandatory)

    def bind(self, keys: Sequence[str]) -> None:
        """More keys."""
        if self.line is not None:
            for key in keys:
                bind = m.QueueBind(queue=self.queue().queue, exchange=EXCHANGE, routing_key=key)
                self.line.client.ask(self._channel, bind)

    def unbind(self, keys: Sequence[str]) -> None:
        """Fewer keys."""
        if self.line is not None and self.is_joined:
            for key in keys:
                unbind = m.QueueUnbind(queue=self.queue().queue, exchange=EXCHANGE, routing_key=key)
                self.line.client.ask(self._channel, unbind)

    def _dial(self) -> None:
        if not self.is_running or self.line is not None:
            return
        life = self._life
        try:
            self.line = Line(
                self.broker,
                self.name,
                self._line_spec,
                lambda: self._came(life),
                lambda reason: self._lost(life, reason),
            )
        except ConnectionRefusedError:
            self._redial()

    def _redial(self) -> None:
        self.world.after(self._backoff.next_delay_s(), self._dial)

    def _lost(self, life: int, reason: str) -> None:
        if life != self._life:
            return
        self.tell(f"lost its connection: {reason}")
        self.line = None
        if self.is_joined:
            self._gone()
            self.left()
        self._redial()

    def _came(self, life: int) -> None:
        line = self.line
        if life != self._life or line is None:
            return
        for event in line.client.events():
            if isinstance(event, Opened):
                self._channel = line.client.open_channel()
            elif isinstance(event, Answered):
                self._answered(line, event.method)
            elif isinstance(event, Delivered):
                self.delivered(event.deliveries)
            elif isinstance(event, Returned):
                self.returned(event.message.routing_key)
            elif isinstance(event, ChannelEnded):  # 405: the broker has not noticed that we were gone
                line.client.close(self.world.now)
            elif isinstance(event, Ended):
                line.reset()
        self.turn()

    def _answered(self, line: Line, method: m.Method) -> None:
        if isinstance(method, m.ChannelOpenOk):
            line.client.ask(self._channel, self.queue())
        elif isinstance(method, m.QueueDeclareOk):
            self.bind(self.keys())
            consume = m.BasicConsume(queue=self.queue().queue, no_ack=True, exclusive=self.queue().exclusive)
            line.client.ask(self._channel, consume)
        elif isinstance(method, m.BasicConsumeOk):
            self._backoff.reset()
            self.joined_at = self.world.now
            self.tell("joins")
            self.joined()
