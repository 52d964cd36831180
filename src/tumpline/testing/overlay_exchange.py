"""A topic exchange in memory for members of an overlay: who is bound gets what is published, in order, or it comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from ipaddress import ip_interface
from typing import Any, NamedTuple

from tumpline.machines.amqp_broker.topics import Topics
from tumpline.machines.overlay import BindingsChanged, Event, Member, MemberConfig, Message, Publish, ToPort
from tumpline.machines.packets import Record, batch_of
from tumpline.wire.overlay import Claim

Listener = Callable[[Message], None]


def claim(text: str) -> Claim:
    """`bbbb::1/64` as a member announces it."""
    interface = ip_interface(text)
    return Claim(interface.ip.packed, interface.network.prefixlen)


def ipv6(source: str, destination: str, payload: bytes = b"", hop_limit: int = 64) -> bytes:
    """A packet (RFC 8200 §3) with no next header."""
    ends = ip_interface(source).ip.packed + ip_interface(destination).ip.packed
    return b"\x60\0\0\0" + len(payload).to_bytes(2, "big") + bytes((59, hop_limit)) + ends + payload


def member_config(number: int, **more: Any) -> MemberConfig:
    """Of `m1`, `m2` ... with bbbb::1, bbbb::2 ...; `more` replaces fields."""
    claims = (claim(f"bbbb::{number:x}/64"),)
    basis = MemberConfig(f"m{number}", bytes([number] * 8), bytes([number] * 32), 1000, addresses=claims)
    return basis._replace(**more)


class Published(NamedTuple):
    """What somebody published, for tests to look at."""

    by: str
    message: Message


class Station:
    """A member with a port of memory."""

    def __init__(self, exchange: Exchange, config: MemberConfig) -> None:
        self.name = config.name
        self.member = Member(config)
        self.packets: list[bytes] = []  # that were written into its port
        self.records: list[Record] = []  # the same, with what stands before them
        self.events: list[Event] = []
        self.inbox: deque[Message] = deque()
        self.is_connected = False
        self._exchange = exchange
        self._bound: set[str] = set()

    def join(self) -> None:
        """Connect, and say so."""
        self.is_connected = True
        for key in self.member.bindings():
            self._bind(key)
        self.member.joined(self._exchange.now)
        self.drain()

    def drop(self) -> None:
        """The connection is lost: the queue is gone, with what was in it."""
        self.is_connected = False
        self.inbox.clear()
        for key in list(self._bound):
            self._exchange.topics.unbind(key, self.name)
        self._bound.clear()
        self.member.left(self._exchange.now)
        self.drain()

    def leave(self) -> None:
        """Say goodbye, and go."""
        self.member.leave(self._exchange.now)
        self.drain()
        self.drop()

    def send(self, *packets: bytes) -> None:
        """These come out of its port."""
        self.member.from_port(batch_of(self.member.config.kinds[0], packets), self._exchange.now)
        self.drain()

    def drain(self) -> None:
        """Do what the member wants done."""
        for output in self.member.outputs():
            if isinstance(output, Publish):
                self._publish(output)
            elif isinstance(output, ToPort):
                self.records += output.batch.records()
                self.packets += [bytes(record.packet) for record in output.batch.records()]
            else:
                self.events.append(output)
                if isinstance(output, BindingsChanged):
                    self._rebind(output)

    def _publish(self, output: Publish) -> None:
        if self.is_connected:
            message = Message(output.routing_key, output.properties, b"".join(output.pieces))
            if not self._exchange.publish(self.name, message) and output.is_mandatory:
                self._exchange.returns.append((self.name, output.routing_key))

    def _rebind(self, change: BindingsChanged) -> None:
        for key in change.add:
            self._bind(key)
        for key in change.remove:
            self._exchange.topics.unbind(key, self.name)
            self._bound.discard(key)

    def _bind(self, key: str) -> None:
        if self.is_connected:
            self._exchange.topics.bind(key, self.name)
            self._bound.add(key)


class Exchange:
    """All of a session; `run` carries until nothing is left to carry."""

    def __init__(self) -> None:
        self.now = 100.0
        self.topics: Topics[str] = Topics()
        self.stations: dict[str, Station] = {}
        self.listeners: dict[str, Listener] = {}
        self.published: list[Published] = []
        self.returns: deque[tuple[str, str]] = deque()

    def add(self, config: MemberConfig) -> Station:
        """One that has joined; one of that name before it is gone."""
        before = self.stations.get(config.name)
        if before is not None and before.is_connected:
            before.drop()
        station = self.stations[config.name] = Station(self, config)
        station.join()
        return station

    def listen(self, name: str, key: str, listener: Listener) -> None:
        """Somebody who is no member of ours, bound by `key`."""
        self.listeners[name] = listener
        self.topics.bind(key, name)

    def publish(self, by: str, message: Message) -> bool:
        """Into all queues that are bound; False: there is none."""
        self.published.append(Published(by, message))
        found = self.topics.find(message.routing_key)
        for name in found:
            if name in self.listeners:
                self.listeners[name](message)
            else:
                self.stations[name].inbox.append(message)
        return bool(found)

    def keys_since(self, mark: int) -> list[str]:
        """Under which keys was published after so many messages."""
        return [published.message.routing_key for published in self.published[mark:]]

    def say(self, key: str, body: bytes) -> None:
        """Somebody publishes who is no member of ours."""
        self.publish("", Message(key, None, body))
        self.run()

    def run(self, seconds: float = 0.0) -> None:
        """Carry all there is, then let time pass, deadline by deadline, carrying what comes of it."""
        until = self.now + seconds
        self._carry()
        while True:
            times = [at for one in self.stations.values() if (at := one.member.next_timeout()) is not None]
            at = min(times, default=until)
            if at > until or not seconds:
                break
            self.now = max(self.now, at)
            for station in self.stations.values():
                station.member.handle_timeout(self.now)
                station.drain()
            self._carry()
        self.now = until

    def _carry(self) -> None:
        while self.returns or any(station.inbox for station in self.stations.values()):
            while self.returns:
                name, key = self.returns.popleft()
                self.stations[name].member.returned(key, self.now)
                self.stations[name].drain()
            for station in self.stations.values():
                messages = list(station.inbox)
                station.inbox.clear()
                if messages and station.is_connected:
                    station.member.received(messages, self.now)
                    station.drain()
