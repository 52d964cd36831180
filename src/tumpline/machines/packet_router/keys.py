"""Routing keys as the router sees them: packets of older agents, sealed batches that are to be passed on, and what is told."""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.machines.packets import PacketKind
from tumpline.wire.agent_keys import (
    COMPONENT_READY,
    COMPONENT_SHUTDOWN,
    LOSSY_LINK_START,
    SESSION_CONTROL,
    Direction,
    Topic,
    control_key,
    is_agent_name,
    packet_key,
    read_agent_key,
)
from tumpline.wire.packet_json import Generation

_TOPICS: Final = {PacketKind.IP: Topic.IP_PACKET, PacketKind.FRAME: Topic.FRAME}
_KINDS: Final = {topic: kind for kind, topic in _TOPICS.items()}


class Form(NamedTuple):
    """A way in which older agents put packets on the bus."""

    kind: PacketKind
    generation: Generation

    def from_key(self, name: str) -> str:
        """Under which that agent sends; `*`: any agent."""
        return packet_key(self.generation, Direction.FROM_AGENT, name, _TOPICS[self.kind])

    def to_key(self, name: str) -> str:
        """Under which that agent receives."""
        return packet_key(self.generation, Direction.TO_AGENT, name, _TOPICS[self.kind])


FORMS: Final = tuple(Form(kind, generation) for generation in (Generation.V1, Generation.V0) for kind in PacketKind)
# The tuple of its members finds it without making one.
FORM_OF: Final = {(form.kind, form.generation): form for form in FORMS}
_STARTED: Final = (Topic.TUN_STARTED, Topic.SERIAL_STARTED)
THERE: Final = "tumpline.there."  # and a router's name: it says nothing, and comes back if there is none of that name
# What a router hears beside packets: all routers of a session hear all of it.
CONTROL_PATTERNS: Final = (
    "tumpline.hello.*",
    "tumpline.who",
    "tumpline.router.*",
    *(control_key(version, Direction.FROM_AGENT, "*", topic) for version in Generation for topic in _STARTED),
    SESSION_CONTROL,
    COMPONENT_READY,
    COMPONENT_SHUTDOWN,
    LOSSY_LINK_START,
)


def packet_patterns(name: str) -> tuple[str, ...]:
    """Under which an agent gives packets to routers; `*`: any agent."""
    return (*(form.from_key(name) for form in FORMS), f"tumpline.via.*.{name}")


class Packets(NamedTuple):
    """A message with a packet of an older agent (or of one of ours that writes as they do)."""

    form: Form
    name: str


class Via(NamedTuple):
    """A sealed batch that a member asks the router to pass on."""

    destination: str
    name: str


def packets_of(key: str) -> Packets | Via | None:
    """What a key of packets says; None: it is none, or of an agent without a proper name."""
    words = key.split(".")
    if words[:2] == ["tumpline", "via"] and len(words) == 4 and all(map(is_agent_name, words[2:])):
        return Via(words[2], words[3])
    found = read_agent_key(key)
    if found is None or found.direction is not Direction.FROM_AGENT or found.topic not in _KINDS:
        return None
    return Packets(FORM_OF[_KINDS[found.topic], found.generation], found.name)


def receiver_of(key: str) -> str | None:
    """Whom a message was for that nobody took: of the keys that routers publish under."""
    words = key.split(".")
    if words[:2] == ["tumpline", "packet"] and len(words) == 4:
        return words[2]
    found = read_agent_key(key)
    return found.name if found is not None and found.direction is Direction.TO_AGENT else None
