"""An attachment: one AMQP connection that is kept, one member of the session on it, and what hangs on both.

Control and packets share the connection, because the queue that holds the member's name is exclusive, and an exclusive
queue belongs to the connection that declared it. Ports give and take packets; whoever called `listen` hears the member's
events (bundles, people); taps see every packet (captures).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.amqp import AmqpConnection, AmqpUrl, Delivery, ReturnedMessage
from tumpline.drivers.overlay._kept_session import KeptSession, SessionCounters, SessionPlace
from tumpline.drivers.overlay._port_host import SessionPortHost
from tumpline.drivers.overlay._session import (
    USUAL_NAMES,
    NameTakenError,
    SessionQueue,
    older_agents,
    router_is_there,
)
from tumpline.drivers.overlay.events import Congested, Drained, OlderRouterSeen
from tumpline.drivers.ports._api import PacketPort
from tumpline.machines.overlay import BindingsChanged, Member, MemberConfig, Publish, ToPort
from tumpline.machines.packets import PacketBatch, PacketKind
from tumpline.wire.amqp import Properties
from tumpline.wire.overlay import Claim, Format
from tumpline.wire.pcapng import Direction

__all__ = ["Attachment", "AttachmentConfig", "AttachmentCounters", "NameTakenError"]

ROUTER_LOOK_S = 30.0  # an older router neither greets nor says goodbye to us; passive declares are cheap


Tap = Callable[[PacketBatch, Direction, str], None]  # the batch, as its port sees it, and the port's name


class AttachmentConfig(NamedTuple):
    """Where, and as whom."""

    url: AmqpUrl
    member: MemberConfig
    exchange: str = "amq.topic"


@dataclass(slots=True)
class AttachmentCounters(SessionCounters):
    """What happened at the edges; the member counts what it decided."""

    pauses: int = 0  # how often the broker was slower than the ports
    unjoined_packets: int = 0  # came out of a port while there was no session
    portless_packets: int = 0  # for a kind of port that is not here


class Attachment:
    """`start`, `add_port`, ..., `stop`. Everything runs on the event loop's thread."""

    def __init__(self, config: AttachmentConfig) -> None:
        self.config = config
        self.member = Member(config.member)
        self.counts = AttachmentCounters()
        self.taps: list[Tap] = []
        self._loop = asyncio.get_running_loop()
        self._ports: dict[PacketKind, PacketPort] = {}
        self._is_paused = False  # the broker is slower than the ports
        self._listeners: list[Callable[[Any], None]] = []
        self._joined: _Joined | None = None
        self._alarm = Alarm(self._expired)
        name = config.member.name
        place = SessionPlace(config.url, config.exchange, name, f"tumpline {name}")
        self._session = KeptSession(place, self, self.counts, self._tell)

    @property
    def is_joined(self) -> bool:
        """Whether we are a member now."""
        return self._joined is not None

    @property
    def ports(self) -> list[PacketPort]:
        """Those that are started."""
        return list(self._ports.values())

    # ---- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join; when it returns, we are a member. Keeps trying while nobody answers (listeners are told).

        Raises: TumplineError that trying again cannot mend: login refused, no such vhost, name taken."""
        await self._session.start()

    async def stop(self) -> None:
        """Undo what the ports did, say goodbye, give back the name. Idempotent."""
        ports, self._ports = list(self._ports.values()), {}
        for port in ports:
            await port.stop()
        if self._joined is not None:
            self.member.leave(self._now())
            self.turn()
        await self._session.stop()

    def abort(self) -> None:
        """End the connection without a word, as if the network had: another is tried by itself."""
        if self._joined is not None:
            self._joined.connection.abort()

    # ---- calls of the session -----------------------------------------------------------------------------------------

    def bindings(self) -> Sequence[str]:
        """See `SessionUser`."""
        return self.member.bindings()

    async def entered(self, connection: AmqpConnection, queue: SessionQueue) -> None:
        """We hold the name (again): greet."""
        connection.on_congested, connection.on_drained = self._pause, self._resume
        await queue.consume(self._received)
        self._joined = _Joined(connection, queue)
        self._session.tasks.start(self._watch_for_router(self._joined), "router watch")
        self.member.joined(self._now())
        self.turn()

    def left(self) -> None:
        """We are no member any more."""
        self._alarm.cancel()
        if self._joined is None:
            return
        self._joined.look.set()  # its watcher ends
        self._joined = None
        self.member.left(self._now())
        self._resume()
        self.turn()

    def returned(self, message: ReturnedMessage) -> None:
        """There is nobody of that name."""
        self.member.returned(message.routing_key, self._now())
        self.turn()

    def _now(self) -> float:
        return self._loop.time()

    # ---- packets ------------------------------------------------------------------------------------------------------

    async def add_port(self, port: PacketPort) -> None:
        """Start it: its packets go to the session from now on. Raises: TumplineError with the remedy."""
        assert port.kind not in self._ports, f"there is a port for {port.kind.name} already"
        self._ports[port.kind] = port
        try:
            await port.start(SessionPortHost(port, self._from_port, self._tell))
        except BaseException:
            del self._ports[port.kind]
            raise
        if self._is_paused:
            port.pause()

    def _from_port(self, port: str, batch: PacketBatch) -> None:
        """These came out of it."""
        for tap in self.taps:
            tap(batch, Direction.INBOUND, port)
        if self._joined is None:
            self.counts.unjoined_packets += batch.count
            return
        connection = self._joined.connection
        connection.hold()
        try:
            self.member.from_port(batch, self._now())
            self._act()
        finally:
            connection.release()
        self._arm()  # what has been sent does not wait for it

    def _received(self, deliveries: Sequence[Delivery]) -> None:
        self.member.received(deliveries, self._now())
        self.turn()

    def send_bundle_message(self, to: str, octets: bytes) -> None:
        """Sealed for the member `to`; it may be lost, as packets may."""
        self.member.send_bundle_message(to, octets, self._now())
        self.turn()

    def publish(self, routing_key: str, body: bytes, properties: Properties) -> None:
        """On the session's exchange, for what is no matter of the member's; lost while we are none."""
        if self._joined is not None:
            self._joined.queue.channel.publish(self.config.exchange, routing_key, body, properties)

    def set_addresses(self, addresses: Sequence[Claim]) -> None:
        """What this member is reached by from now on."""
        self.member.set_addresses(tuple(addresses), self._now())
        self.turn()

    def look_for_router(self) -> None:
        """One may have come or gone: look now, not only in a while."""
        if self._joined is not None:
            self._joined.look.set()

    def turn(self) -> None:
        """Do what the member has decided; arm the timer."""
        self._act()
        self._arm()

    def _act(self) -> None:
        """Until there is nothing more."""
        joined, exchange = self._joined, self.config.exchange
        while outputs := self.member.outputs():
            for output in outputs:
                if type(output) is Publish:
                    if joined is not None:
                        key, pieces, properties, mandatory = output  # unpacked at once: what a packet costs counts
                        joined.queue.channel.publish(exchange, key, pieces, properties, mandatory=mandatory)
                elif type(output) is ToPort:
                    self._to_port(output.batch)
                else:
                    self._tell(output)

    def _to_port(self, batch: PacketBatch) -> None:
        port = self._ports.get(batch.kind)
        if port is None:
            self.counts.portless_packets += batch.count
            return
        for tap in self.taps:
            tap(batch, Direction.OUTBOUND, port.name)
        port.write(batch)

    def _pause(self) -> None:
        self.counts.pauses += 1
        self._is_paused = True
        for port in self._ports.values():
            port.pause()
        self._tell(Congested())

    def _resume(self) -> None:
        if not self._is_paused:
            return
        self._is_paused = False
        for port in self._ports.values():
            port.resume()
        self._tell(Drained())

    # ---- time ---------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        self._alarm.set(self.member.next_timeout() if self._joined is not None else None)

    def _expired(self) -> None:
        self.member.handle_timeout(self._now())
        self.turn()

    # ---- what others hear ----------------------------------------------------------------------------------------------

    def listen(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Call it with every event: the member's, SessionJoined and so on, PortUp, PortDown. Returns: how to end that."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def _tell(self, event: Any) -> None:
        if type(event) is BindingsChanged:
            self._rebind(event)
        for listener in tuple(self._listeners):
            listener(event)

    def _rebind(self, change: BindingsChanged) -> None:
        if self._joined is not None:
            self._joined.changes.append(change)
            if len(self._joined.changes) == 1:
                self._session.tasks.start(_apply(self._joined), "bindings")

    @property
    def _speaks_older(self) -> bool:
        return any(each is not Format.BINARY for each in self.config.member.formats)

    async def _watch_for_router(self, joined: _Joined) -> None:
        """Ask now and then whether an older router serves us, and which older agents are there: they say nothing of either."""
        tried = {name for name in USUAL_NAMES if name != self.config.member.name} if self._speaks_older else set()
        with_queues: set[str] = set()  # under their usual names: when there are none any more, the agent is gone
        while self._joined is joined:
            found = await older_agents(joined.connection, tried)
            for name, generation in found:
                self.member.older_found(name, generation, self._now())
            for name in with_queues - {name for name, _ in found}:
                self.member.older_gone(name, self._now())
            with_queues = {name for name, _ in found}
            there = await router_is_there(joined.connection, self.config.member.name)
            self.member.older_router(there, self._now())
            self.turn()
            if there is not joined.has_older_router:
                joined.has_older_router = there
                self._tell(OlderRouterSeen(there))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(joined.look.wait(), ROUTER_LOOK_S)
            joined.look.clear()
            tried = {*self.member.older_names(), *with_queues}

    def describe(self) -> dict[str, Any]:
        """Snapshot for people."""
        session = {"url": str(self.config.url), "exchange": self.config.exchange, "joined": self.is_joined}
        return {
            "session": session | asdict(self.counts),
            "member": self.member.snapshot(self._now()),
            "ports": [port.describe() for port in self._ports.values()],
        }


class _Joined:
    """What lasts as long as one connection."""

    def __init__(self, connection: AmqpConnection, queue: SessionQueue) -> None:
        self.connection = connection
        self.queue = queue
        self.changes: deque[BindingsChanged] = deque()  # not yet made; the first is under way
        self.has_older_router = False
        self.look = asyncio.Event()  # somebody says that a router may have come or gone


async def _apply(joined: _Joined) -> None:
    """Change bindings, one change after the other, new keys first: rather twice than not at all."""
    while joined.changes:
        change = joined.changes[0]
        await joined.queue.bind(change.add)
        await joined.queue.unbind(change.remove)
        joined.changes.popleft()
