"""The amqp link: an attachment to a session of the packet overlay, and a conversation with each member that is a node.

The rules are `tumpline.machines.overlay.bundles`; here is who has a conversation, and when its messages go.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, NamedTuple

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.amqp import AmqpUrl
from tumpline.drivers.links._amqp_config import AmqpConfig
from tumpline.drivers.links._amqp_transfers import NO_PATH, Transfers
from tumpline.drivers.links._api import LinkContext, LinkHost
from tumpline.drivers.links._units import lose
from tumpline.drivers.overlay import (
    QUEUE_OCTETS_MOST,
    Attachment,
    AttachmentConfig,
    SessionAway,
    SessionFailed,
    SessionJoined,
    SessionLost,
)
from tumpline.drivers.overlay.events import Congested, Drained, PortUp
from tumpline.drivers.overlay.keys import new_identity, read_identity, read_key, read_pins
from tumpline.drivers.ports import serial, tun
from tumpline.drivers.ports._api import PacketPort
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import MalformedError, StorageError, TumplineError
from tumpline.machines.effects import PathInfo, RefuseReason, Unit
from tumpline.machines.overlay import BundleMessage, Departure, KeyMismatch, MemberConfig, MemberJoined, MemberLeft
from tumpline.machines.overlay.bundle_events import SessionLowered, SessionRaised
from tumpline.machines.overlay.bundles import MESSAGE_OCTETS, Conversation, Phase
from tumpline.machines.overlay.directory import MEMBERS_MOST
from tumpline.machines.overlay.numbered import FLIGHT_OCTETS_MOST
from tumpline.machines.packets import PacketKind
from tumpline.wire.eid import Eid
from tumpline.wire.overlay import INSTANCE_OCTETS, Claim, Format, Role
from tumpline.wire.overlay_bundles import Opening

# Under way to one member, from all together: half of what its queue holds, so that packets find room beside bundles.
SHARED_OCTETS = QUEUE_OCTETS_MOST // 2
SHARE_OCTETS_LEAST = 2 * MESSAGE_OCTETS


class _Peer:
    """What the link has with one member."""

    def __init__(self, name: str, conversation: Conversation, host: LinkHost) -> None:
        self.name = name
        self.instance = b""  # of the member's life that we know of
        self.conversation = conversation
        self.transfers = Transfers(conversation, host, name)
        self.outbound = False


class _Away(NamedTuple):
    """The broker cannot be reached."""

    reason: str
    failures: int
    retry_at: float


class AmqpLink:
    """BundleLink over a session of the overlay. Made by SPEC.open. Raises: ConfigError (a key file is none)."""

    host: LinkHost

    def __init__(self, config: AmqpConfig, context: LinkContext) -> None:
        self.name = context.name
        self._config = config
        self._context = context
        self._attachment_config = attachment_config(config, str(context.node_id))
        self._attachment: Attachment | None = None
        self._peers: dict[str, _Peer] = {}
        self._by_path: dict[int, _Peer] = {}
        self._wanted: dict[str, Eid | None] = {}  # members to have a session with, and who they are to be
        self._declined: set[str] = set()  # members that we do not ask, until `connect`
        self._unwilling: dict[
            str, bytes
        ] = {}  # members (and their lives) that ended a session: they ask when they want one
        self._present: set[str] = set()  # members that are nodes
        self._away: _Away | None = None
        self._is_congested = False
        self._is_stopping = False
        self._asking: dict[str, _Peer] = {}  # those with something to do in the next turn
        self._turn_asked: asyncio.Handle | None = None
        self._alarm = Alarm(self._time_came)
        self._begun = asyncio.Event()  # we are a member, or it is clear that this takes longer
        self._changed = asyncio.Event()
        self._tasks = TaskOwner(self._task_failed)
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            BundleMessage: self._on_message,
            MemberJoined: self._on_joined,
            MemberLeft: self._on_left,
            KeyMismatch: lambda event: self._notice("peer_refused", member=event.name, reason=event.reason),
            SessionLost: lambda event: self._notice("broker_lost", reason=event.reason),
            SessionAway: self._on_away,
            SessionJoined: self._on_session,
            SessionFailed: lambda event: self._notice("session_failed", reason=str(event.error)),
            Congested: lambda _: self._congested(True),
            Drained: lambda _: self._congested(False),
            PortUp: self._on_port_up,
        }

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, host: LinkHost) -> None:
        """Join the session; if no broker answers, go on trying. Raises: TumplineError with the remedy."""
        self.host = host
        for name in self._config.wanted:
            self.connect(name)
        self._attachment = Attachment(self._attachment_config)
        self._attachment.listen(self._heard)
        joining = self._tasks.start(self._join(self._attachment), f"{self.name} joins {self._config.exchange}")
        joining.add_done_callback(lambda _: self._begun.set())
        await self._begun.wait()
        if joining.done() and (error := joining.exception()) is not None:
            await self.stop(graceful=False)
            raise error

    async def _join(self, attachment: Attachment) -> None:
        await attachment.start()
        for port in self._ports():
            await attachment.add_port(port)

    def _ports(self) -> list[PacketPort]:
        config = self._config
        ports = [tun.SPEC.open(config.tun)] if config.tun is not None else []
        return ports + ([serial.SPEC.open(config.serial)] if config.serial is not None else [])

    async def stop(self, *, graceful: bool = True, timeout_s: float = 5.0) -> None:
        """End all sessions, say goodbye."""
        self._is_stopping = True
        if graceful:
            await self._wind_down(timeout_s)
        now = self._now()
        for peer in list(self._peers.values()):
            peer.conversation.drop("the link is stopped", now)
            self._asking[peer.name] = peer
        self._turn()
        await self._tasks.stop()
        if self._attachment is not None:
            await self._attachment.stop()
        self._alarm.cancel()
        if self._turn_asked is not None:
            self._turn_asked.cancel()

    async def _wind_down(self, timeout_s: float) -> None:
        for peer in self._peers.values():
            peer.conversation.close("the link is stopped", self._now())
            self._asking[peer.name] = peer
        self._turn()
        try:
            async with asyncio.timeout(timeout_s):
                while self._by_path:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._notice("sessions_cut", count=len(self._by_path), after_s=timeout_s)

    def _task_failed(self, name: str, error: BaseException) -> None:
        if self._begun.is_set():  # else `start` raises it
            reason = str(error) if isinstance(error, TumplineError) else repr(error)
            self._notice("session_failed", task=name, reason=reason)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _notice(self, name: str, **fields: Any) -> None:
        self.host.notice(name, link=self.name, **fields)

    # ---- who is there ------------------------------------------------------------------------------------------------

    def _heard(self, event: Any) -> None:
        """What the attachment tells."""
        if (handler := self._handlers.get(type(event))) is not None:
            handler(event)

    def _on_away(self, event: SessionAway) -> None:
        failures = self._away.failures if self._away is not None else 0
        self._away = _Away(event.reason, failures + 1, self._now() + event.retry_s)
        self._begun.set()
        self._notice("connection_failed", address=str(self._attachment_config.url), reason=event.reason)

    def _on_session(self, _: SessionJoined) -> None:
        self._away = None

    def _on_port_up(self, event: PortUp) -> None:
        """The session shall know where its packets belong."""
        assert self._attachment is not None
        interfaces = [ip_interface(text) for text in event.facts.get("addresses") or ()]
        self._attachment.set_addresses([Claim(each.ip.packed, each.network.prefixlen) for each in interfaces])

    def _on_joined(self, event: MemberJoined) -> None:
        name, hello = event.name, event.hello
        if hello is None or hello.role is Role.ROUTER or not hello.node_id or self._is_stopping:
            return
        self._present.add(name)
        peer, now = self._peer(name), self._now()
        if peer.instance and peer.instance != hello.instance:
            peer.conversation.drop("the member started anew", now)
        peer.instance = hello.instance
        peer.conversation.resume(now)
        if name in self._wanted or (self._config.discover and not self._is_left_alone(name, hello.instance)):
            peer.conversation.open(now)
        self._share()
        self._ask_turn(peer)

    def _share(self) -> None:
        """Everybody here may send to everybody: the more there are, the less each may have under way."""
        most = min(max(SHARED_OCTETS // max(len(self._present), 1), SHARE_OCTETS_LEAST), FLIGHT_OCTETS_MOST)
        for peer in self._peers.values():
            peer.conversation.limit_flight(most)

    def _is_left_alone(self, name: str, instance: bytes) -> bool:
        """Whether we do not ask a member for a session, because one of us wanted none."""
        return name in self._declined or self._unwilling.get(name) == instance

    def _on_left(self, event: MemberLeft) -> None:
        self._present.discard(event.name)
        peer = self._peers.get(event.name)
        if peer is None:
            return
        if event.why is Departure.DISCONNECTED:
            peer.conversation.pause(self._now())  # it may be there again in a moment, and so may we
        else:
            peer.conversation.drop(f"the member left: {event.why.value}", self._now())
        self._share()
        self._ask_turn(peer)

    def _peer(self, name: str) -> _Peer:
        peer = self._peers.get(name)
        if peer is None:
            config = self._config
            limits = config.transfer_mru, config.max_unanswered, config.max_unanswered_octets
            conversation = Conversation(Opening(str(self._context.node_id), *limits), self._context.random)
            peer = self._peers[name] = _Peer(name, conversation, self.host)
        return peer

    def connect(self, address: str, peer: Eid | None = None) -> None:
        """Have a session with this member whenever it is there."""
        self._wanted[address] = peer
        self._declined.discard(address)
        self._unwilling.pop(address, None)
        if address in self._present:
            self._peer(address).conversation.open(self._now())
            self._ask_turn(self._peer(address))

    def disconnect(self, address: str | None, path: int | None, reason: str) -> None:
        """End the session, and ask for none until `connect`; the other one may."""
        over = self._by_path.get(path) if path is not None else None
        for name in {address, over.name if over is not None else None} - {None}:
            assert name is not None
            self._wanted.pop(name, None)
            self._declined.add(name)
            if name in self._peers:
                self._peers[name].conversation.close(reason, self._now())
                self._ask_turn(self._peers[name])

    # ---- one turn ----------------------------------------------------------------------------------------------------

    def _on_message(self, event: BundleMessage) -> None:
        """Its octets die with this call: what it causes is done at once, answers go with the turn."""
        if event.source not in self._present:
            return  # no node, or we are stopping
        peer = self._peer(event.source)
        peer.conversation.received((event.octets,), self._now())
        self._handle_events(peer)
        self._ask_turn(peer)

    def _congested(self, is_congested: bool) -> None:
        if is_congested < self._is_congested:
            for peer in self._peers.values():
                peer.conversation.wait_anew(self._now())
                self._ask_turn(peer)
        self._is_congested = is_congested

    def _ask_turn(self, peer: _Peer) -> None:
        """Once for everything that happens in this turn of the loop."""
        self._asking[peer.name] = peer
        if self._turn_asked is None:
            self._turn_asked = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Send what is to be sent, arm the timer."""
        if self._turn_asked is not None:
            self._turn_asked.cancel()
            self._turn_asked = None
        while self._asking:
            _, peer = self._asking.popitem()
            self._handle_events(peer)
            self._send(peer)
            if peer.conversation.phase is not Phase.UP and peer.name not in self._present:
                self._peers.pop(peer.name, None)  # nothing is under way, and nobody is there
        self._arm()

    def _send(self, peer: _Peer) -> None:
        conversation, attachment = peer.conversation, self._attachment
        assert attachment is not None
        while not self._is_congested and (pieces := conversation.pull(self._now())) is not None:
            try:
                octets = peer.transfers.resolve(pieces, self._now())
            except StorageError as error:
                conversation.drop(str(error), self._now())
                octets = None
            self._handle_events(peer)
            if octets is not None:
                attachment.send_bundle_message(peer.name, octets)

    def _handle_events(self, peer: _Peer) -> None:
        handlers = peer.transfers.handlers
        while events := peer.conversation.events():
            for event in events:
                handler = handlers.get(type(event))
                if handler is not None:
                    handler(event)
                elif type(event) is SessionRaised:
                    self._raised(peer, event)
                elif type(event) is SessionLowered:
                    self._lowered(peer, event)

    def _raised(self, peer: _Peer, event: SessionRaised) -> None:
        expected = self._wanted.get(peer.name)
        try:
            node_id = Eid.parse(event.node_id) if event.node_id else None
        except MalformedError:
            node_id = None
        self._unwilling.pop(peer.name, None)
        peer.transfers.path = path = self.host.new_path()
        self._by_path[path] = peer
        proved = self._is_proved(peer.name) and expected in (None, node_id)
        if not proved and expected is not None:
            self._notice("connection_failed", address=peer.name, reason=f"the peer is {node_id}, not {expected}")
        security = "AES-256-GCM, given key" if self._config.key else "AES-256-GCM, identities"
        self.host.path_up(
            PathInfo(path, self.name, node_id, peer.name, proved, event.mru_octets, 0, security, event.outbound)
        )

    def _is_proved(self, name: str) -> bool:
        """Whether what a member says of itself makes routes: nobody asked for a proof, or it gave one."""
        return bool(self._config.key) or not self._config.pins or name in self._config.pins

    def _lowered(self, peer: _Peer, event: SessionLowered) -> None:
        path, peer.transfers.path = peer.transfers.path, NO_PATH
        del self._by_path[path]
        if event.by_peer:
            while len(self._unwilling) >= MEMBERS_MOST:
                del self._unwilling[next(iter(self._unwilling))]
            self._unwilling[peer.name] = peer.instance
        self._changed.set()
        self.host.path_down(path, event.reason)

    def _arm(self) -> None:
        if self._is_congested:
            self._alarm.cancel()  # what waits is with us, and not with the peers
            return
        due = [at for peer in self._peers.values() if (at := peer.conversation.next_timeout()) is not None]
        self._alarm.set(min(due, default=None))

    def _time_came(self) -> None:
        now = self._now()
        for peer in self._peers.values():
            peer.conversation.handle_timeout(now)
            self._asking[peer.name] = peer
        self._turn()

    # ---- bundles -----------------------------------------------------------------------------------------------------

    def offer(self, path: int, units: Sequence[Unit]) -> None:
        """Send the units in order."""
        peer = self._by_path.get(path)
        if peer is None:
            lose(self.host, path, units)
            return
        peer.transfers.offer(units)
        self._ask_turn(peer)

    def cancel(self, path: int, seq: int) -> None:
        """Do not send it, if it has not begun."""
        if (peer := self._by_path.get(path)) is not None:
            peer.conversation.cancel(seq)
            self._ask_turn(peer)

    def acknowledge(self, path: int, transfers: Sequence[int]) -> None:
        """These are stored."""
        if (peer := self._by_path.get(path)) is not None:
            peer.conversation.acknowledge(transfers)
            self._ask_turn(peer)

    def refuse(self, path: int, transfer: int, reason: RefuseReason) -> None:
        """This one is not kept."""
        if (peer := self._by_path.get(path)) is not None:
            peer.conversation.refuse(transfer, reason)
            self._ask_turn(peer)

    def describe(self) -> dict[str, Any]:
        """Snapshot for people."""
        sessions = [
            {"path": peer.transfers.path, "address": peer.name, **peer.conversation.snapshot()}
            for peer in self._peers.values()
        ]
        joined = self._attachment is not None and self._attachment.is_joined
        return {
            "kind": "amqp",
            "listening": [self._config.member] if joined else [],
            "sessions": sessions,
            "dialling": self._dialling(),
            "overlay": self._attachment.describe() if self._attachment is not None else {},
        }

    def _dialling(self) -> list[dict[str, Any]]:
        """Whom we try to reach, as diallers of other links tell it."""
        up = {peer.name for peer in self._by_path.values()}
        found: list[dict[str, Any]] = [
            {
                "address": name,
                "peer": str(node) if node is not None else None,
                "connected": name in up,
                "failures": 0,
                "last_failure": "",
                "retry_in_s": 0.0,
            }
            for name, node in self._wanted.items()
        ]
        if self._away is not None:
            reason, failures, retry_at = self._away
            broker = {
                "address": str(self._attachment_config.url),
                "peer": None,
                "connected": False,
                "failures": failures,
            }
            found.append(broker | {"last_failure": reason, "retry_in_s": round(max(0.0, retry_at - self._now()), 3)})
        return found


def attachment_config(config: AmqpConfig, node_id: str) -> AttachmentConfig:
    """Where we join, and as whom. Raises: ConfigError."""
    kinds = ((PacketKind.IP,) if config.tun else ()) + ((PacketKind.FRAME,) if config.serial else ())
    member = MemberConfig(
        name=config.member,
        instance=secrets.token_bytes(INSTANCE_OCTETS),
        identity=read_identity(Path(config.identity), "identity") if config.identity else new_identity(),
        started_ms=time.time_ns() // 1_000_000,
        given_key=read_key(Path(config.key), "key") if config.key else None,
        pins=read_pins(tuple(f"{name}={key}" for name, key in config.pins.items()), "pins"),
        kinds=kinds,
        formats=tuple(Format) if kinds else (Format.BINARY,),
        node_id=node_id,
    )
    url = AmqpUrl.parse(config.url or os.environ["AMQP_URL"])
    return AttachmentConfig(url, member, config.exchange)
