"""The packet router of a session: packets of older agents and sealed batches go to whom they are for, and to nobody else.

It sits on a topic exchange like any agent. Sources are divided into shares (queues with a single active consumer), so
that several routers can work on one session (`shares`). Who is there and which addresses they have is heard: announcements
of members, the older agents' `started` messages, and the packets themselves. A topology may say who hears whom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.impairment import Chance, Impairment
from tumpline.machines.overlay import MemberConfig, Publish
from tumpline.machines.packet_router.bridge import Bridge
from tumpline.machines.packet_router.counters import Counters
from tumpline.machines.packet_router.directory import Directory
from tumpline.machines.packet_router.fellows import Fellows
from tumpline.machines.packet_router.impaired import Impairments
from tumpline.machines.packet_router.keys import CONTROL_PATTERNS, THERE, packet_patterns, receiver_of
from tumpline.machines.packet_router.news import News
from tumpline.machines.packet_router.outputs import JSON, Cancel, Output, Subscribe
from tumpline.machines.packet_router.passing import Passing
from tumpline.machines.packet_router.presence import Presence
from tumpline.machines.packet_router.shares import Message, Shares, Step, preferred
from tumpline.machines.packet_router.snapshot import snapshot_of
from tumpline.machines.packet_router.sources import STRANGERS, Sources
from tumpline.machines.packet_router.topology import Topology
from tumpline.machines.packet_router.writing import Writing
from tumpline.wire.agent_json import Component, ControlKind, encode_control
from tumpline.wire.agent_keys import COMPONENT_READY, COMPONENT_SHUTDOWN
from tumpline.wire.packet_json import Generation
from tumpline.wire.router_talk import Said

SHARDS_MOST: Final = 256
TIDY_S: Final = 10.0  # how often what is old is forgotten
# As the older router calls itself when it comes, and when it goes.
_READY: Final = Component("packetrouting", "Packet router is ready")
_SHUTDOWN: Final = Component("packet_router", "Packet router ends")


class RouterConfig(NamedTuple):
    """How a session is routed; as whom is the member's part: only one with the session's key is heard by its members."""

    member: MemberConfig
    shards: int = 1
    topology: Topology | None = None
    impairment: Impairment | None = None
    guesses: Mapping[bytes, tuple[str, ...]] = {}  # by the usual plan: agents that may have an address nobody claimed

    @property
    def name(self) -> str:
        """Of this router in the session."""
        return self.member.name

    @property
    def is_sharded(self) -> bool:
        """Whether sources are bound by name, each to its share."""
        return self.topology is None and self.shards > 1

    @property
    def plan(self) -> str:
        """How the work is divided, in words."""
        if self.topology is not None:
            return f"topology {self.topology.configuration_id}"
        return f"{self.shards} {'share' if self.shards == 1 else 'shares'}"


def share_names(config: RouterConfig) -> dict[str, tuple[str, ...]]:
    """Queues, and the keys that are bound to them from the start."""
    if config.topology is not None:
        # Under the names that the older router gave them: who looks for a router finds one.
        nodes = config.topology.nodes
        return {f"{key}@packet_router": (key,) for node in nodes for key in packet_patterns(node)}
    if config.shards == 1:
        return {"tumpline.router.shard.0": packet_patterns("*")}
    return {f"tumpline.router.shard.{number}": () for number in range(config.shards)}


class PacketRouter:
    """Without I/O. After each call `outputs` has what is to be done."""

    def __init__(self, config: RouterConfig, random: Chance) -> None:
        self.config = config
        self._queues = share_names(config)
        self._outputs: list[Output] = []
        self._shares = Shares(config.name, tuple(self._queues))
        self.directory = Directory()
        self._presence = Presence(config.member, self.directory)
        self._bridge = Bridge(config.member, self._presence, counters := Counters())
        reach = None if config.topology is None else config.topology.reach()
        impairments = Impairments(config.impairment, reach, random)
        writing = Writing(config.member, self.directory, impairments, self._bridge, counters, self._outputs)
        self.passing = Passing(
            self.directory, config.topology, config.guesses, writing, counters, self._presence.is_router
        )
        self._fellows = Fellows(config.member, config.plan, self._shares, self.directory, self._outputs)
        self._news = News(self.directory, self.passing)
        self._sources = Sources(config.shards, self.directory, self._shares) if config.is_sharded else None
        self._tidy_at = 0.0
        self._is_joined = False
        self._deadline: float | None = None
        self._is_stale = True

    @property
    def bindings(self) -> tuple[str, ...]:
        """What the router's own queue is bound to: what is told, and what is for it to bridge."""
        floods = ("tumpline.flood.*",) if self.config.member.given_key is not None else ()
        return (*CONTROL_PATTERNS, f"{THERE}{self.config.name}", f"tumpline.packet.{self.config.name}.*", *floods)

    # ---- the broker --------------------------------------------------------------------------------------------------

    def joined(self, now: float) -> None:
        """A connection is there; what is told comes over a queue with these `bindings`."""
        self._is_joined, self._tidy_at = True, now + TIDY_S
        if self.config.topology is not None:
            for node in self.config.topology.nodes:
                prefixes = tuple(prefix for name, prefix in self.config.topology.addresses if name == node)
                self.directory.fix(node, prefixes, now)
        self._shares.joined()
        self._fellows.joined(now)
        self._presence.announcer.start(now)
        self._control(COMPONENT_READY, ControlKind.COMPONENT_READY, _READY)
        self._settle()

    def left(self) -> None:
        """The connection is gone. What was learned stays: agents will be back as we shall."""
        self._is_joined = False
        self._shares.left()
        self._fellows.left()
        if self._sources is not None:
            self._sources.left()
        self._presence.left()
        self._presence.outputs.clear()
        self._outputs.clear()
        self._is_stale = True

    def leave(self) -> None:
        """Good-bye, before the connection is closed in order."""
        self._control(COMPONENT_SHUTDOWN, ControlKind.COMPONENT_SHUTDOWN, _SHUTDOWN)
        self._fellows.say(Said.LEAVING)
        self._presence.announcer.leave()
        self._settle()

    def subscribed(self, share: str) -> None:
        """`Subscribe` was done."""
        self._shares.subscribed(share)
        self._fellows.say(Said.HERE)
        self._settle()

    def cancelled(self, share: str, now: float) -> None:
        """`Cancel` was done, or the broker did it by itself: nothing more comes of that share."""
        self.passing.take(self._shares.cancelled(share), now)
        self._settle()

    # ---- messages ----------------------------------------------------------------------------------------------------

    def packets(self, share: str, messages: Sequence[Message], now: float) -> None:
        """Messages of a share. Their bodies may be views that die with this call."""
        self.passing.take(self._shares.received(share, messages, now), now)
        is_stale = False
        if self._sources is not None:
            if share == STRANGERS:
                self._sources.came_as_strangers(self.passing.names_of(messages))
            is_stale = self._sources.notice(now)
        # Looking for the first deadline takes longer than passing on a packet; packets alone seldom move it.
        is_stale = is_stale or self.passing.writing.impairments.is_used or self._shares.is_waiting
        self._settle(is_stale=is_stale or bool(self._shares.tasks))

    def told(self, messages: Sequence[Message], now: float) -> None:
        """Messages of the router's own queue."""
        for message in messages:
            key = message.routing_key
            try:
                if key.startswith("tumpline.router."):
                    self.passing.take(self._fellows.heard(message, now), now)
                elif key.startswith(THERE):
                    pass  # whoever asked knows by now: it did not come back
                elif key.startswith(("tumpline.packet.", "tumpline.flood.")):
                    self._bridge_from(message, now)
                elif key.startswith("tumpline."):
                    self._presence.heard(message, now)
                else:
                    self._news.heard(message, now)
            except MalformedError:
                self.passing.counters.malformed += 1
        if self._sources is not None:
            self._sources.notice(now)
        self._settle()

    def returned(self, routing_key: str, now: float) -> None:
        """The broker found no queue for it: whom it was for is not there (any more)."""
        if routing_key.startswith(THERE):
            self.passing.take(self._fellows.gone(routing_key.removeprefix(THERE), now), now)
            self._settle()
            return
        self.passing.returned(routing_key, now)
        name = receiver_of(routing_key)
        if name is not None and not self._presence.returned(name, now):
            self.directory.forget(name)
        self._settle()

    # ---- time and results --------------------------------------------------------------------------------------------

    def outputs(self) -> list[Output]:
        """What is to be done, in this order."""
        outputs, self._outputs[:] = self._outputs[:], []
        return outputs

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is wanted."""
        if self._is_stale:
            parts = (self._shares, self._fellows, self._presence, self.passing.writing.impairments, self._sources)
            times = [part.next_timeout() for part in parts if part is not None]
            times.append(self._tidy_at if self._is_joined else None)
            self._deadline, self._is_stale = min((at for at in times if at is not None), default=None), False
        return self._deadline

    def handle_timeout(self, now: float) -> None:
        """Impaired packets, shares that were not released, what is old."""
        self.passing.writing.due(now)
        self.passing.take(self._shares.handle_timeout(now), now)
        self.passing.take(self._fellows.handle_timeout(now), now)
        self._presence.handle_timeout(now)
        if self._sources is not None:
            self._outputs += self._sources.look(now)
            self._sources.notice(now)
        if self._is_joined and self._tidy_at <= now:
            self._tidy_at = now + TIDY_S
            self.directory.expire(now)
        self._settle()

    def snapshot(self, now: float) -> dict[str, Any]:
        """For people and programs."""
        return snapshot_of(self.config.name, self.directory, self.passing, self._shares, now)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _bridge_from(self, message: Message, now: float) -> None:
        """One that was sent to all is bridged by one router: all answer alike which."""
        source = message.routing_key.rpartition(".")[2]
        opened = self._bridge.open(message) if source != self.config.name else None
        if opened is None:
            return
        if not opened.is_flooded or preferred(f"bridge {source}", (self.config.name, *self._shares.routers)) == (
            self.config.name
        ):
            self.passing.take_opened(opened, now)

    def _settle(self, *, is_stale: bool = True) -> None:
        """Turn what the parts want into outputs. `is_stale`: the first deadline may be another one."""
        self._is_stale = self._is_stale or is_stale
        if self._presence.outputs:
            self._outputs += self._presence.outputs
            self._presence.outputs.clear()
        if self._shares.tasks:
            for task in self._shares.tasks:
                self._do(*task)
            self._shares.tasks.clear()
        if self.passing.learned or self.directory.changed:
            self._fellows.tell_learned(self.passing.learned, self.directory.changed)
            self.passing.learned.clear()
            self.directory.changed.clear()

    def _do(self, step: Step, name: str) -> None:
        match step:
            case Step.SUBSCRIBE:
                self._outputs.append(Subscribe(name, self._queues[name]))
            case Step.CANCEL:
                self._outputs.append(Cancel(name))
            case Step.ASK:
                self._outputs.append(Publish(f"{THERE}{name}", (b"",), None, True))
            case Step.FED:
                self._fellows.say(Said.FED, name)
            case Step.RELEASED:
                self._fellows.say(Said.RELEASED, name)

    def _control(self, key: str, kind: ControlKind, body: Component) -> None:
        self._outputs.append(Publish(key, (encode_control(kind, body, Generation.V1),), JSON))
