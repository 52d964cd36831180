"""A member of a packet overlay: what comes from its port goes to the session, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from tumpline.machines.overlay.addresses import AddressBook
from tumpline.machines.overlay.announcer import Announcer
from tumpline.machines.overlay.bindings import bindings_of
from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.overlay.counters import Counters
from tumpline.machines.overlay.directory import Directory, Peer, Trust
from tumpline.machines.overlay.events import AddressConflict, BindingsChanged, Departure, Output, Received
from tumpline.machines.overlay.incoming import Incoming
from tumpline.machines.overlay.outgoing import Outgoing
from tumpline.machines.overlay.routes import Router
from tumpline.machines.overlay.sealing import Secrets
from tumpline.machines.packets import PacketBatch
from tumpline.wire.agent_keys import Direction, read_agent_key
from tumpline.wire.ip_packet import address_of
from tumpline.wire.overlay import Claim, Purpose, Role, decode_key_untrusted
from tumpline.wire.packet_json import Generation

# So long we do without routers when nobody took what we said to them: one has gone, has not bound us yet, or never will.
UNSERVED_S: Final = 30.0
# An older agent's parts come up one by one, in processes of their own; on a busy machine that takes seconds.
OLDER_STARTS_S: Final = 10.0
CONFLICTS_MOST: Final = 256  # strangers could claim any number of addresses; then people know


def _in_order(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def addressee_of(routing_key: str) -> str | None:
    """Whom a message was for that was published under this key; None: for the router."""
    older = read_agent_key(routing_key)
    if older is not None:
        return older.name if older.direction is Direction.TO_AGENT else None
    key = decode_key_untrusted(routing_key)
    return key.destination if key.purpose in (Purpose.PACKET, Purpose.BUNDLE) else None


class Member:
    """Without I/O. Messages are published, and the queue is bound, as `outputs` say; in their order."""

    def __init__(self, config: MemberConfig) -> None:
        self.config = config.check()
        self.counters = Counters()
        self._out: list[Output] = []
        self._conflicts: set[tuple[bytes, str, str]] = set()  # that were told
        self._unserved_until: float | None = None  # no router takes what we say, though one may announce itself
        self._secrets = Secrets(config)
        self._book = AddressBook()
        self._book.claim(config.name, config.addresses, Trust.OURSELVES)
        self._announcer = Announcer(config, self._secrets, self._out)
        self._directory = Directory(config, self._secrets, self._announcer, self._out, self._peer_changed)
        self._outgoing = Outgoing(
            config, self._secrets, self._directory, self._book, self._announcer, self.counters, self._out
        )
        self._incoming = Incoming(
            config, self._directory, self._book, self._announcer, self.counters, self._out, self._owners_changed
        )

    @property
    def identity(self) -> bytes:
        """The public one, for others' pins."""
        return self._secrets.public

    def bindings(self) -> tuple[str, ...]:
        """What the queue is to be bound to now; `BindingsChanged` says when that changes."""
        return bindings_of(self.config, self._outgoing.router.ours is not None)

    def outputs(self) -> list[Output]:
        """What is to be done and what has happened since the last call."""
        out = self._out.copy()
        self._out.clear()
        return out

    # ---- the session -------------------------------------------------------------------------------------------------

    def joined(self, now: float) -> None:
        """The queue is there, bound and read from."""
        self._announcer.start(now)

    def left(self, _now: float) -> None:
        """The connection is lost: who is there has to be found out again."""
        self._announcer.stop()
        self._directory.clear()

    def leave(self, _now: float) -> None:
        """Say goodbye; the connection can be closed when that is sent."""
        self._announcer.leave()

    def received(self, messages: Sequence[Received], now: float) -> None:
        """The queue delivered these. Their bodies are not looked at after the call."""
        self._incoming.received(messages, now)

    def returned(self, routing_key: str, now: float) -> None:
        """A message that was published as mandatory was taken by no queue."""
        self.counters.returned += 1
        name = addressee_of(routing_key)
        peer = self._directory.peers.get(name or "")
        if name is None:
            self._unserved_until = now + UNSERVED_S
            self._look_for_router()
        elif peer is not None and (peer.hello is not None or now >= peer.heard_at + OLDER_STARTS_S):
            # Not an older agent that has just said that it has started: it does so before it has a queue.
            self._directory.remove(peer, Departure.RETURNED)
            self._announcer.ask(now)

    def older_router(self, is_there: bool, _now: float) -> None:
        """Whether an older router takes what we publish."""
        self._set_router(self._outgoing.router._replace(is_older=is_there))

    def older_found(self, name: str, generation: Generation, now: float) -> None:
        """An older agent reads from a queue of its own, although it may have said nothing since we joined."""
        if self._directory.heard_older(name, generation, now) is not None:
            self._owners_changed()

    def older_names(self) -> tuple[str, ...]:
        """Older agents that count as there."""
        return tuple(self._directory.older)

    def older_gone(self, name: str, _now: float) -> None:
        """The queues of an older agent that had some are gone."""
        peer = self._directory.older.get(name)
        if peer is not None:
            self._directory.remove(peer, Departure.RETURNED)

    # ---- the port ----------------------------------------------------------------------------------------------------

    def from_port(self, batch: PacketBatch, now: float) -> None:
        """Packets came out of the port. Its octets are the port's again after the call."""
        self._outgoing.send(batch, now)

    def set_addresses(self, addresses: tuple[Claim, ...], now: float) -> None:
        """The port has these, and networks behind it."""
        self._book.claim(self.config.name, addresses, Trust.OURSELVES)
        self._owners_changed()
        self._tell_conflicts(self.config.name)
        self._announcer.set_addresses(addresses, now)

    def send_to(self, name: str, batch: PacketBatch, now: float) -> bool:
        """Packets for that member, whoever has their destinations; False: it is not there, or reads only JSON."""
        peer = self._directory.peers.get(name)
        return peer is not None and self._outgoing.send_to(peer, batch, now)

    def send_bundle_message(self, name: str, octets: bytes | memoryview, now: float) -> bool:
        """A piece of a bundle for a member; False: it is not there."""
        peer = self._directory.peers.get(name)
        if peer is None or peer.keys is None:
            return False
        self._outgoing.send_bundle_message(peer, octets, now)
        return True

    # ---- time and people ---------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """See `contract.Machine`."""
        parts = (self._announcer, self._directory, self._book, self._incoming.copies)
        times = [part.next_timeout() for part in parts] + [self._unserved_until]
        return min((at for at in times if at is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """See `contract.Machine`."""
        self._announcer.handle_timeout(now)
        self._directory.handle_timeout(now)
        self._incoming.copies.handle_timeout(now)
        if self._book.handle_timeout(now):
            self._owners_changed()
        if self._unserved_until is not None and self._unserved_until <= now:
            self._unserved_until = None
            self._look_for_router()

    def snapshot(self, now: float) -> dict[str, Any]:
        """For people: plain values."""
        return {
            "name": self.config.name,
            "identity": self.identity.hex(),
            "routers": [*self._directory.routers, *(["older router"] if self._outgoing.router.is_older else [])],
            "members": [self._describe(peer, now) for peer in self._directory.peers.values()],
            "counters": asdict(self.counters) | {"copies": self._incoming.copies.dropped},
            "refused": self._directory.refused,
        }

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _peer_changed(self, peer: Peer) -> None:
        if peer.hello is not None and peer.hello.role is Role.ROUTER:
            self._unserved_until = None  # it came, or changed: it may serve us now
        if self._directory.peers.get(peer.name) is not peer:
            self._book.forget(peer.name)
        elif peer.hello is not None:
            self._book.claim(peer.name, peer.hello.addresses, peer.trust)
            self._tell_conflicts(peer.name)
        self._owners_changed()
        self._look_for_router()

    def _tell_conflicts(self, name: str) -> None:
        """Each of them once: whoever has one address with another cannot be reached by all."""
        for address, other in self._book.shared(name):
            owner = self._book.owner(address)
            told = (address, *_in_order(name, other))
            if owner is not None and told not in self._conflicts and len(self._conflicts) < CONFLICTS_MOST:
                self._conflicts.add(told)
                self._out.append(AddressConflict(other if owner == name else name, owner, address))

    def _look_for_router(self) -> None:
        """Which of ours serves us."""
        ours = None if self._unserved_until is not None else next(iter(self._directory.routers.values()), None)
        self._set_router(self._outgoing.router._replace(ours=ours))

    def _owners_changed(self) -> None:
        self._outgoing.forget_routes()
        self._incoming.forget_sources()

    def _set_router(self, router: Router) -> None:
        before, self._outgoing.router = self._outgoing.router, router
        if router == before:
            return
        self._outgoing.forget_routes()
        is_there, was_there = router.ours is not None, before.ours is not None
        if is_there is not was_there:
            had, has = bindings_of(self.config, was_there), bindings_of(self.config, is_there)
            add, remove = (tuple(one for one in a if one not in b) for a, b in ((has, had), (had, has)))
            self._out.append(BindingsChanged(add, remove))

    def _describe(self, peer: Peer, now: float) -> dict[str, Any]:
        known = self._book.describe(peer.name)
        return {
            "name": peer.name,
            "role": "older agent" if peer.hello is None else peer.hello.role.value,
            "formats": sorted(one.name.lower() for one in peer.generations)
            if peer.hello is None
            else [one.value for one in peer.hello.formats],
            "identity": "" if peer.hello is None else peer.hello.key.hex(),
            "trust": peer.trust.name.lower(),
            "node_id": "" if peer.hello is None else peer.hello.node_id,
            "heard_s_ago": now - peer.heard_at,
            "claims": [f"{address_of(claim.address)}/{claim.prefix_bits}" for claim in known.claims],
            "learned": [str(address_of(address)) for address in known.learned],
        }
