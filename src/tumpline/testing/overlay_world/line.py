"""A broker, and the lines that clients reach it by: each delays, stalls, is reset, or goes dead without anybody being told."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tumpline.machines.amqp_broker.broker import Broker, BrokerConfig
from tumpline.machines.amqp_broker.connection import Connection
from tumpline.machines.amqp_client import ClientConfig, ClientConnection
from tumpline.testing.world import World

BROKER = "broker"  # in the story


class LineSpec(NamedTuple):
    """How a line is."""

    delay_s: float = 0.01
    jitter_s: float = 0.0
    chunk_octets: int = 1 << 16  # as they come out of a socket


class SimBroker:
    """The broker's machine with its clock; `restart` loses all that it held."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lines: set[Line] = set()
        self.is_up = True
        self._id = 0
        self._timer_at = float("inf")
        self._start()

    def _start(self) -> None:
        self.machine = Broker(BrokerConfig(), self._new_id)

    def _new_id(self) -> str:
        self._id += 1
        return f"id-{self._id}"

    def restart(self, away_s: float) -> None:
        """Die as by kill -9, and be back so much later."""
        self.world.tell(BROKER, BROKER, f"dies for {away_s:.1f} s")
        self.is_up = False
        for line in list(self.lines):
            line.reset()
        self._start()
        self.world.after(away_s, self._back)

    def _back(self) -> None:
        self.is_up = True

    @property
    def queues(self) -> dict[str, int]:
        """Queues that there are, and how many messages wait in each."""
        return {name: len(queue) for host in self.machine._hosts.values() for name, queue in host.queues.items()}

    def turn(self) -> None:
        """Write what there is to write."""
        of = {line.server: line for line in self.lines}
        while outputs := self.machine.outputs():
            for connection in outputs:
                line = of.get(connection)
                if line is not None:
                    line.from_server()
        self._arm()

    def _arm(self) -> None:
        at = self.machine.next_timeout()
        if at is not None and at < self._timer_at:
            self._timer_at = at
            self.world.at(max(at, self.world.now), self._expired)

    def _expired(self) -> None:
        self._timer_at = float("inf")
        if self.is_up:
            self.machine.handle_timeout(self.world.now)
            self.turn()


class Line:
    """One connection. The client's end is told of octets and of its end by the two callables."""

    def __init__(
        self,
        broker: SimBroker,
        name: str,
        spec: LineSpec,
        came: Callable[[], None],
        ended: Callable[[str], None],
    ) -> None:
        world = broker.world
        server = broker.machine.connect(world.now) if broker.is_up else None
        if server is None:
            raise ConnectionRefusedError
        self.server: Connection = server
        self.client = ClientConnection(ClientConfig(name=name), world.now)
        self._broker, self._world, self._spec = broker, world, spec
        self._came, self._ended = came, ended
        self._chance = world.chance(f"line of {name} at {world.now}")
        self._is_up, self._is_dead = True, False
        self._free_at = [world.now, world.now]  # to the server, to the client: octets keep their order
        self._rest = b""
        self._timer_at = float("inf")
        broker.lines.add(self)
        self.from_client()

    def from_client(self) -> None:
        """Carry what the client's machine wants to say."""
        pieces = self.client.data_to_send(self._world.now)
        self._carry(b"".join(pieces), 0, self._to_server)
        self._arm()

    def from_server(self) -> None:
        """Carry what the broker's machine wants to say."""
        data = b"".join(self.server.data_to_send())
        self.server.sent(len(data), self._world.now)
        self._carry(data, 1, self._to_client)
        if self.server.is_closed and self._is_up:
            self._at(1, 0.0, lambda: self._end("the broker closed the connection"))

    def stall(self, for_s: float) -> None:
        """Nothing gets through meanwhile, and all of it after."""
        until = self._world.now + for_s
        self._free_at = [max(at, until) for at in self._free_at]

    def reset(self) -> None:
        """Both ends are told."""
        if self._is_up:
            self._lose_server()
            self._end("connection reset by peer")

    def vanish(self) -> None:
        """The client's machine is gone (power, cable); the broker notices nothing but silence."""
        self._is_dead = True
        self._is_up = False

    def _end(self, reason: str) -> None:
        if self._is_up:
            self._is_up = False
            self._broker.lines.discard(self)
            self._ended(reason)

    def _lose_server(self) -> None:
        if not self.server.is_closed:
            self.server.lost(self._world.now)
        self._broker.turn()

    def _carry(self, data: bytes, way: int, arrive: Callable[[bytes], None]) -> None:
        most = self._spec.chunk_octets
        for start in range(0, len(data), most):
            chunk = data[start : start + most]
            self._at(way, self._chance.random() * self._spec.jitter_s, lambda chunk=chunk: arrive(chunk))  # type: ignore[misc]

    def _at(self, way: int, extra_s: float, action: Callable[[], None]) -> None:
        when = max(self._world.now + self._spec.delay_s + extra_s, self._free_at[way])
        self._free_at[way] = when
        self._world.at(when, action)

    def _to_server(self, data: bytes) -> None:
        if not self.server.is_closed and self._broker.is_up and self in self._broker.lines and not self._is_dead:
            self.server.receive(data, self._world.now)
            self._broker.turn()

    def _to_client(self, data: bytes) -> None:
        if not self._is_up:
            return
        octets = self._rest + data
        taken = self.client.received(memoryview(octets), self._world.now)
        self._rest = octets[taken:]
        self._came()
        if self._is_up:
            self.from_client()

    def hang_up(self) -> None:
        """The client's socket is closed; what was said before still arrives."""
        self.from_client()
        self._is_up = False
        self._at(0, 0.0, self._closed_by_client)

    def _closed_by_client(self) -> None:
        self._lose_server()
        self._broker.lines.discard(self)

    def _arm(self) -> None:
        at = self.client.next_timeout()
        if at is not None and self._is_up and (at < self._timer_at or self._timer_at <= self._world.now):
            self._timer_at = at
            self._world.at(max(at, self._world.now), self._expired)

    def _expired(self) -> None:
        self._timer_at = float("inf")
        if self._is_up:
            self.client.handle_timeout(self._world.now)
            self._came()
            self.from_client()
