"""A broker with single active consumers, in virtual time: latencies on every connection, each of them in order.

It is RabbitMQ as far as routers need it: who subscribed first is fed; when that one cancels or dies the next one is; a queue
without consumers is deleted with what is in it; nothing is acknowledged, so nothing comes twice.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from functools import cache
from random import Random

from tests.machines.packet_router.packets import at, body, config, ip

from tumpline.machines.overlay import Message, Publish
from tumpline.machines.packet_router import (
    CONTROL_PATTERNS,
    Bind,
    Cancel,
    Output,
    PacketRouter,
    RouterConfig,
    Subscribe,
    Unbind,
)
from tumpline.machines.packet_router.keys import THERE
from tumpline.wire.packet_json import decode_packet_untrusted


class _Pipe:
    """One direction of a connection: what goes in comes out later, in order."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._last = 0.0

    def send(self, action: Callable[[], None]) -> None:
        self._last = max(self._last, self._bus.now + self._bus.random.uniform(0.0005, 0.02))
        self._bus.at(self._last, action)


class Client:
    """A router on its connection."""

    def __init__(self, bus: Bus, name: str, shards: int) -> None:
        self.bus = bus
        self.is_alive = True
        self.machine = PacketRouter(RouterConfig(config(name), shards), bus.random.random)
        self._up, self._down = _Pipe(bus), _Pipe(bus)
        self._timer: float | None = None
        self._busy_until = 0.0
        self._waiting: deque[Callable[[], None]] = deque()

    def start(self) -> None:
        self.machine.joined(self.bus.now)
        self.turn()

    def down(self, action: Callable[[], None]) -> None:
        """The broker sends something; what a dead router would have got is lost."""

        self._down.send(lambda: self._arrive(action))

    def stall(self, seconds: float) -> None:
        """It gets no processor for so long; what comes waits."""
        self._busy_until = max(self._busy_until, self.bus.now + seconds)
        self.bus.at(self._busy_until, self._go_on)

    def _arrive(self, action: Callable[[], None]) -> None:
        self._waiting.append(action)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self.bus.now >= self._busy_until:
            action = self._waiting.popleft()
            if self.is_alive:
                action()
                self.turn()

    def turn(self) -> None:
        for output in self.machine.outputs():
            self._up.send(lambda output=output: self.bus.perform(self, output))  # type: ignore[misc]
        wanted = self.machine.next_timeout()
        if wanted is not None and wanted != self._timer:
            self._timer = wanted
            self.bus.at(max(wanted, self.bus.now), self._expire)

    def kill(self) -> None:
        """As by SIGKILL: what it had written is still read, then the connection is found closed."""
        self.is_alive = False
        self._up.send(lambda: self.bus.gone(self))

    def leave(self) -> None:
        self.machine.leave()
        self.turn()
        self.kill()

    def _expire(self) -> None:
        if self.bus.now < self._busy_until:
            self.bus.at(self._busy_until, self._expire)
        elif self.is_alive and self._timer is not None and self._timer <= self.bus.now:
            self._timer = None
            self.machine.handle_timeout(self.bus.now)
            self.turn()


class Bus:
    def __init__(self, seed: int, shards: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.clients: list[Client] = []
        self.consumers: dict[str, list[Client]] = defaultdict(list)
        self.arrived: dict[str, list[int]] = defaultdict(list)  # numbers of packets at their destination, by source
        self.given: Counter[str] = Counter()
        self._shards = shards
        self._bindings: dict[str, set[str]] = defaultdict(set)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, action))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until

    def router(self, name: str) -> Client:
        client = Client(self, name, self._shards)
        self.clients.append(client)
        client.start()
        return client

    def is_bound(self, key: str) -> bool:
        """Whether it belongs to a share by its own name."""
        return any(key in keys for keys in self._bindings.values())

    def give(self, source: str) -> None:
        """One numbered packet of that source, for the address of `sink`."""
        self.given[source] += 1
        number = self.given[source].to_bytes(3)
        packet = ip(f"bbbb::{1 + int(source[1:]):x}", "bbbb::ffff")[:-4] + number + b"\x07"
        self._route(Message(f"fromAgent.{source}.ip.tun.packet.raw", None, body(packet)))

    def started(self, name: str, host: int) -> None:
        told = f'{{"ipv6_prefix": "bbbb", "ipv6_host": "{host:x}"}}'.encode()
        self._route(Message(f"fromAgent.{name}.ip.tun.started", None, told))

    def perform(self, client: Client, output: Output) -> None:
        """The broker reads what a router wrote."""
        match output:
            case Publish(key) if key.startswith(THERE):
                if all(each.machine.config.name != key.removeprefix(THERE) for each in self.clients):
                    client.down(lambda: client.machine.returned(key, self.now))
            case Publish(key, pieces):
                self._route(Message(key, None, b"".join(pieces)))
            case Subscribe(share, patterns):
                self._bindings[share].update(patterns)
                self.consumers[share].append(client)
                client.down(lambda: client.machine.subscribed(share))
            case Cancel(share):
                self.unsubscribe(client, share)
                client.down(lambda: client.machine.cancelled(share, self.now))
            case Bind(share, patterns):
                self._bindings[share].update(patterns)
            case Unbind(share, patterns):
                self._bindings[share].difference_update(patterns)

    def gone(self, client: Client) -> None:
        """Its connection is found closed."""
        self.clients.remove(client)
        for share in list(self.consumers):
            self.unsubscribe(client, share)

    def unsubscribe(self, client: Client, share: str) -> None:
        """It is fed no more; the next one is."""
        if client in self.consumers[share]:
            self.consumers[share].remove(client)
        if not self.consumers[share]:
            del self.consumers[share]
            self._bindings.pop(share, None)

    def _route(self, message: Message) -> None:
        key = message.routing_key
        if key.startswith("toAgent.sink."):
            octets = decode_packet_untrusted(message.body)[0].data
            source = f"s{int.from_bytes(octets[8:24][-2:]) - 1}"
            assert octets[24:40] == at("bbbb::ffff")
            self.arrived[source].append(int.from_bytes(octets[-4:-1]))
        elif any(_matches(pattern, key) for pattern in CONTROL_PATTERNS):
            for client in self.clients:
                client.down(lambda client=client: client.machine.told([message], self.now))  # type: ignore[misc]
        else:
            self._route_to_share(message)

    def _route_to_share(self, message: Message) -> None:
        shares = [
            share
            for share, keys in self._bindings.items()
            if any(_matches(pattern, message.routing_key) for pattern in keys)
        ]
        if self._shards > 1 and not shares:
            shares = ["tumpline.router.shard.0"]  # strangers: the alternate exchange
        for share in shares:
            for client in self.consumers.get(share, [])[:1]:
                self._feed(client, share, message)

    def _feed(self, client: Client, share: str, message: Message) -> None:
        client.down(lambda: client.machine.packets(share, [message], self.now))


@cache
def _matches(pattern: str, key: str) -> bool:
    theirs, words = pattern.split("."), key.split(".")
    return len(theirs) == len(words) and all(one in ("*", word) for one, word in zip(theirs, words, strict=True))
