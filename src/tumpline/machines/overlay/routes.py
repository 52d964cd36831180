"""How packets for one address go: in one format, by what the owner of the address and we can both."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from tumpline.machines.overlay.config import Via
from tumpline.machines.overlay.directory import Peer
from tumpline.machines.overlay.older_packets import key_of
from tumpline.machines.packets import PacketKind
from tumpline.wire.agent_keys import Direction
from tumpline.wire.overlay import Format, OverlayKey, Purpose
from tumpline.wire.packet_json import Generation

GENERATIONS: Final = {Format.V1: Generation.V1, Format.V0: Generation.V0}
_FORMATS: Final = {generation: one for one, generation in GENERATIONS.items()}


class Fate(Enum):
    """What becomes of a packet."""

    SEALED = "sealed for one member"
    OLDER = "as JSON for one member, or for the router"
    FLOODED = "for all: nobody is known who has the address, or many are meant"
    NOWHERE = "nobody it could be sent to understands us"


class Route(NamedTuple):
    """Of an address; kept until somebody comes, goes or changes."""

    fate: Fate
    key: str = ""
    peer: Peer | None = None
    associated: bytes = b""
    generation: Generation = Generation.V1
    direction: Direction = Direction.TO_AGENT


FLOODED: Final = Route(Fate.FLOODED)
NOWHERE: Final = Route(Fate.NOWHERE)


def formats_of(peer: Peer) -> tuple[Format, ...]:
    """What it understands."""
    if peer.hello is not None:
        return peer.hello.formats
    return tuple(_FORMATS[generation] for generation in peer.generations)


def generations_of(formats: Iterable[Format]) -> tuple[Generation, ...]:
    """The older ones among formats, the better one first."""
    spoken = frozenset(formats)
    return tuple(generation for one, generation in GENERATIONS.items() if one in spoken)


class Router(NamedTuple):
    """Which routers are there."""

    ours: Peer | None = None  # one of them, if there are several
    is_older: bool = False

    def passes_on(self, generation: Generation, kind: PacketKind) -> bool:
        """Whether what we say in that format is heard by one. Older ones do not know IP packets of version 0."""
        return self.ours is not None or (self.is_older and (generation is Generation.V1 or kind is PacketKind.FRAME))


class Routes(NamedTuple):
    """How we send; `formats` are those that we speak."""

    name: str
    formats: tuple[Format, ...]
    via: Via

    def towards(self, peer: Peer, kind: PacketKind, router: Router) -> Route:
        """The one way to a member."""
        if self.can_seal_for(peer):
            return self._sealed(peer, router)
        theirs = generations_of(formats_of(peer))
        for generation in self.generations:
            if generation in theirs:
                return self._older(generation, kind, peer, router)
        return self._translated(peer, kind, router)

    @property
    def generations(self) -> tuple[Generation, ...]:
        """Of the older formats those that we speak, the better one first."""
        return generations_of(self.formats)

    def can_seal_for(self, peer: Peer) -> bool:
        """Whether our own format is common."""
        return Format.BINARY in self.formats and peer.keys is not None and Format.BINARY in formats_of(peer)

    def is_translated_by(self, peer: Peer) -> bool:
        """Whether it is a router that opens what we seal, for those who cannot."""
        return peer.hello is not None and peer.hello.is_translator and self.can_seal_for(peer)

    def _sealed(self, peer: Peer, router: Router) -> Route:
        if self.via is Via.ROUTER and router.ours is None:
            return NOWHERE
        key = OverlayKey(Purpose.VIA if self.via is Via.ROUTER else Purpose.PACKET, peer.name, self.name)
        return Route(Fate.SEALED, str(key), peer, key.associated)

    def _older(self, generation: Generation, kind: PacketKind, peer: Peer, router: Router) -> Route:
        if router.passes_on(generation, kind):
            key = key_of(generation, Direction.FROM_AGENT, self.name, kind)
            return Route(Fate.OLDER, key, None, b"", generation, Direction.FROM_AGENT)
        key = key_of(generation, Direction.TO_AGENT, peer.name, kind)
        return Route(Fate.OLDER, key, None, b"", generation, Direction.TO_AGENT)

    def _translated(self, peer: Peer, kind: PacketKind, router: Router) -> Route:
        """Nothing is common: a router of ours reads what we can write, and writes what the member can read."""
        if router.ours is None:
            return NOWHERE
        if self.generations:
            return self._older(self.generations[0], kind, peer, router)
        if not self.is_translated_by(router.ours):
            return NOWHERE
        key = OverlayKey(Purpose.PACKET, router.ours.name, self.name)
        return Route(Fate.SEALED, str(key), router.ours, key.associated)
