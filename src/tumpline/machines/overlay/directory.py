"""Who is in the session: members by their announcements, older agents by what they were heard to say.

An announcement is believed if its proof is sound: made with the given key, or by the identity that it names. Which identity
a name has is pinned, or else that of the first who used the name, for as long as that one is there. When somebody else uses
it (or an instance comes that started earlier than the one that is known), everybody is asked to announce themselves: the
one that was known answers and stays, or it is gone after `DOUBT_S` and the other one is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.overlay.announcer import Announcer
from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.overlay.events import Departure, KeyMismatch, MemberChanged, MemberJoined, MemberLeft, Output
from tumpline.machines.overlay.sealing import PairKeys, Secrets
from tumpline.wire.overlay import Hello, Role, SignedHello
from tumpline.wire.packet_json import Generation

MEMBERS_MOST: Final = 1024  # an event has some dozens; strangers may announce any number under identities
OLDER_MOST: Final = 256  # anybody can pretend to be one: who was not heard for longest is forgotten
RETIRED_MOST: Final = 1024  # members that are gone, remembered so that nothing of theirs comes twice
MISMATCHES_MOST: Final = 256
INTERVALS_OF_SILENCE: Final = 3
DOUBT_S: Final = 3.0  # announcements that were asked for come within a second


class Trust(IntEnum):
    """How much the claims of a member count; more is better."""

    OLDER = 0
    FIRST_USE = 1
    PROVEN = 2  # it has the given key, or the identity that is pinned
    OURSELVES = 3


class Peer:
    """A member of the session."""

    __slots__ = ("doubted_until", "generations", "heard_at", "hello", "keys", "name", "since", "trust")

    def __init__(self, name: str, hello: Hello | None, keys: PairKeys | None, trust: Trust, now: float) -> None:
        self.name = name
        self.hello = hello  # None: an older agent
        self.keys = keys
        self.trust = trust
        self.heard_at = now
        self.generations: set[Generation] = set()  # that an older agent was heard to speak
        self.since = 0  # our last announcement before it came: it knows our keys when we have made another one
        self.doubted_until: float | None = None

    def silent_at(self) -> float | None:
        """When it counts as gone unless it is heard; never for an older agent: those announce nothing."""
        if self.hello is None:
            return None
        at = self.heard_at + INTERVALS_OF_SILENCE * self.hello.interval_s
        return at if self.doubted_until is None else min(at, self.doubted_until)


_Who = tuple[str, bytes, bytes, bytes]


def _who(hello: Hello) -> _Who:
    """One start of one member: keys are agreed with it alone."""
    return hello.name, hello.instance, hello.key, hello.agreement_key


class _Retired(NamedTuple):
    sequence: int
    keys: PairKeys


class Directory:
    """All that are there. `changed` is called after each change."""

    def __init__(
        self,
        config: MemberConfig,
        secrets: Secrets,
        announcer: Announcer,
        out: list[Output],
        changed: Callable[[Peer], None],
    ) -> None:
        self._config = config
        self._secrets = secrets
        self._out = out
        self._announcer = announcer
        self._changed = changed
        self.peers: dict[str, Peer] = {}
        self.older: dict[str, Peer] = {}  # of those without an announcement, the one heard last at the end
        self.routers: dict[str, Peer] = {}  # of ours
        self._look_at: float | None = None  # nobody counts as gone before; what is heard meanwhile only delays that
        self.refused = 0  # announcements without a proof, or of somebody else
        self._retired: dict[_Who, _Retired] = {}
        self._mismatches: dict[tuple[str, bytes], None] = {}

    def heard(self, said: SignedHello, now: float) -> None:
        """An announcement has come."""
        hello = said.hello
        reason = self._reason_to_refuse(said)
        if reason is not None:
            self._mismatch(hello, reason)
            return
        peer = self.peers.get(hello.name)
        known = peer.hello if peer is not None else None
        if peer is None or known is None:
            self._take(hello, now)
        elif hello.instance == known.instance and hello.key == known.key:
            if hello.sequence > known.sequence:
                self._renew(peer, known, hello, now)
        elif hello.key != known.key or hello.started_ms < known.started_ms:
            self._doubt(peer, hello, now)
        else:
            self.remove(peer, Departure.RESTARTED)
            self._take(hello, now)

    def heard_older(self, name: str, generation: Generation, now: float) -> Peer | None:
        """Something came from an agent that announces nothing in our way; None: it is a member that does."""
        peer = self.older.pop(name, None)
        if peer is None:
            if name in self.peers or name == self._config.name:
                return None
            while len(self.older) >= OLDER_MOST:
                self.remove(next(iter(self.older.values())), Departure.CROWDED_OUT)
            peer = self.peers[name] = Peer(name, None, None, Trust.OLDER, now)
            self._out.append(MemberJoined(name, None))
        self.older[name] = peer
        peer.heard_at = now
        if generation not in peer.generations:
            peer.generations.add(generation)
            self._changed(peer)
        return peer

    def remove(self, peer: Peer, why: Departure) -> None:
        """It is not there any more."""
        del self.peers[peer.name]
        self.older.pop(peer.name, None)
        if peer.hello is not None:
            self._retire(peer, peer.hello)
        self._changed(peer)
        self._out.append(MemberLeft(peer.name, why))

    def clear(self) -> None:
        """We are not connected: nothing is known any more."""
        for peer in list(self.peers.values()):
            self.remove(peer, Departure.DISCONNECTED)

    def next_timeout(self) -> float | None:
        """When the next one counts as gone, or earlier."""
        return self._look_at

    def handle_timeout(self, now: float) -> None:
        """Those that were silent for too long are gone."""
        if self._look_at is None or now < self._look_at:
            return
        gone = [peer for peer in self.peers.values() if (at := peer.silent_at()) is not None and at <= now]
        for peer in gone:
            if peer.doubted_until is not None:
                self._announcer.ask(now)  # whoever took its name says so
            self.remove(peer, Departure.SILENT)
        self._look_at = min((at for peer in self.peers.values() if (at := peer.silent_at()) is not None), default=None)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _reason_to_refuse(self, said: SignedHello) -> str | None:
        hello, pin = said.hello, self._config.pins.get(said.hello.name)
        if hello.mode is not self._secrets.mode or not self._secrets.is_proven(said):
            return "its key is not ours: give all members of the session the same key, or none of them one"
        if pin is not None and pin != hello.key:
            return f"its identity is {hello.key.hex()}, pinned is {pin.hex()}: somebody else uses the name, or it has a new one"
        return None

    def _take(self, hello: Hello, now: float) -> None:
        retired = self._retired.get(_who(hello))
        if hello.is_leaving or (retired is not None and hello.sequence <= retired.sequence):
            return
        if len(self.peers) - len(self.older) >= MEMBERS_MOST:
            self.refused += 1
            return
        try:
            keys = retired.keys if retired is not None else self._secrets.keys_with(hello)
        except MalformedError as error:
            self._mismatch(hello, str(error))
            return
        older = self.older.pop(hello.name, None)
        if older is not None:
            del self.peers[hello.name]
        is_certain = self._config.given_key is not None or hello.name in self._config.pins
        peer = self.peers[hello.name] = Peer(
            hello.name, hello, keys, Trust.PROVEN if is_certain else Trust.FIRST_USE, now
        )
        peer.since = self._announcer.hello.sequence
        if hello.role is Role.ROUTER:
            self.routers[hello.name] = peer
        self._look_before(peer)
        self._changed(peer)
        self._out.append(MemberJoined(hello.name, hello))

    def _renew(self, peer: Peer, known: Hello, hello: Hello, now: float) -> None:
        peer.hello, peer.heard_at, peer.doubted_until = hello, now, None
        if hello.is_leaving:
            self.remove(peer, Departure.SAID_SO)
        elif hello._replace(sequence=known.sequence) != known:
            self._changed(peer)
            self._out.append(MemberChanged(hello.name, hello))

    def _doubt(self, peer: Peer, hello: Hello, now: float) -> None:
        # Nobody is doubted who was not asked: whoever forges announcements would otherwise drive members out.
        if peer.doubted_until is None and not hello.is_leaving and self._announcer.ask(now):
            self._mismatch(hello, "another one of that name is there: it is taken when that one does not answer")
            peer.doubted_until = now + DOUBT_S
            self._look_before(peer)

    def _look_before(self, peer: Peer) -> None:
        at = peer.silent_at()
        if at is not None:
            self._look_at = at if self._look_at is None else min(self._look_at, at)

    def _retire(self, peer: Peer, hello: Hello) -> None:
        assert peer.keys is not None
        self.routers.pop(hello.name, None)
        self._retired[_who(hello)] = _Retired(hello.sequence, peer.keys)
        if len(self._retired) > RETIRED_MOST:
            del self._retired[next(iter(self._retired))]

    def _mismatch(self, hello: Hello, reason: str) -> None:
        self.refused += 1
        about = (hello.name, hello.key)
        if about not in self._mismatches:
            if len(self._mismatches) >= MISMATCHES_MOST:
                self._mismatches.clear()
            self._mismatches[about] = None
            self._out.append(KeyMismatch(hello.name, reason))
