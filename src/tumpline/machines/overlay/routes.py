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
    is_mandatory: bool = False


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

    is_ours: bool = False
    is_older: bool = False

    @property
    def is_there(self) -> bool:
        """Whether one passes on what we say in an older format."""
        return self.is_ours or self.is_older


class Routes(NamedTuple):
    """How we send; `formats` are those that we speak."""

    name: str
    formats: tuple[Format, ...]
    via: Via

    def towards(self, peer: Peer, kind: PacketKind, router: Router) -> Route:
        """The one way to a member."""
        theirs = formats_of(peer)
        if Format.BINARY in self.formats and Format.BINARY in theirs and peer.keys is not None:
            return self._sealed(peer, router)
        common = [one for one in generations_of(theirs) if one in self.generations]
        if router.is_there:
            own = self.generations
            return self._by_router((common or own)[0], kind, peer) if own else NOWHERE
        if not common:
            return NOWHERE
        key = key_of(common[0], Direction.TO_AGENT, peer.name, kind)
        return Route(Fate.OLDER, key, peer, b"", common[0], True)

    @property
    def generations(self) -> tuple[Generation, ...]:
        """Of the older formats those that we speak, the better one first."""
        return generations_of(self.formats)

    def _sealed(self, peer: Peer, router: Router) -> Route:
        if self.via is Via.ROUTER and not router.is_ours:
            return NOWHERE
        key = OverlayKey(Purpose.VIA if self.via is Via.ROUTER else Purpose.PACKET, peer.name, self.name)
        return Route(Fate.SEALED, str(key), peer, key.associated, is_mandatory=True)

    def _by_router(self, generation: Generation, kind: PacketKind, peer: Peer) -> Route:
        key = key_of(generation, Direction.FROM_AGENT, self.name, kind)
        return Route(Fate.OLDER, key, peer, b"", generation)
