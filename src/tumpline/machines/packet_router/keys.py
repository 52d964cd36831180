"""Routing keys that carry packets: who sent it, in which form, and the key under which another one is to have it."""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.machines.packets import PacketKind
from tumpline.wire.packet_json import Generation

NAME_OCTETS_MOST: Final = 64
_FORBIDDEN: Final = frozenset(".*#")
_RESERVED: Final = frozenset({"fromAgent", "toAgent", "tumpline"})
V1_READY: Final = "testingtool.component.ready"
V1_SHUTDOWN: Final = "testingtool.component.shutdown"
LOSSY: Final = "routing.lossy.link.start"


def is_name(name: str) -> bool:
    """Whether an agent may be called so: one word of a routing key."""
    return (
        0 < len(name.encode()) <= NAME_OCTETS_MOST
        and name not in _RESERVED
        and not any(each in _FORBIDDEN or each.isspace() or not each.isprintable() for each in name)
    )


class Form(NamedTuple):
    """A way in which older agents put packets on the bus: `*` in the patterns is the agent's name."""

    kind: PacketKind
    generation: Generation
    source: str
    target: str

    def from_key(self, name: str) -> str:
        """Under which that agent sends."""
        return self.source.replace("*", name)

    def to_key(self, name: str) -> str:
        """Under which that agent receives."""
        return self.target.replace("*", name)


IP_V1: Final = Form(PacketKind.IP, Generation.V1, "fromAgent.*.ip.tun.packet.raw", "toAgent.*.ip.tun.packet.raw")
FRAME_V1: Final = Form(
    PacketKind.FRAME, Generation.V1, "fromAgent.*.802154.serial.packet.raw", "toAgent.*.802154.serial.packet.raw"
)
IP_V0: Final = Form(PacketKind.IP, Generation.V0, "data.tun.fromAgent.*", "data.tun.toAgent.*")
FRAME_V0: Final = Form(PacketKind.FRAME, Generation.V0, "data.serial.fromAgent.*", "data.serial.toAgent.*")
FORMS: Final = (IP_V1, FRAME_V1, IP_V0, FRAME_V0)
FORM_OF: Final = {(form.kind, form.generation): form for form in FORMS}
VIA: Final = "tumpline.via.*.*"  # destination, source
PACKET_PATTERNS: Final = (*(form.source for form in FORMS), VIA)
CONTROL_PATTERNS: Final = (
    "tumpline.hello.*",
    "tumpline.who",
    "tumpline.router.*",
    "fromAgent.*.ip.tun.started",
    "fromAgent.*.802154.serial.started",
    "control.tun.fromAgent.*",
    "control.serial.fromAgent.*",
    "control.session",
    V1_READY,
    V1_SHUTDOWN,
    LOSSY,
)


class Packets(NamedTuple):
    """What a key says of a message with packets of older agents."""

    form: Form
    name: str


class Via(NamedTuple):
    """A sealed batch that a member asks the router to pass on."""

    destination: str
    source: str


class Told(NamedTuple):
    """A message that tells something about `name` ("" where its body says about whom)."""

    topic: str  # the pattern it came by
    name: str


Meaning = Packets | Via | Told


def meaning_of(key: str) -> Meaning | None:
    """What a routing key says; None: nothing to a router, or names nobody may have."""
    words = key.split(".")
    for pattern, form in _PATTERNS.items():
        if (names := _names(words, pattern.split("."))) is None:
            continue
        if not all(map(is_name, names)):
            return None
        if isinstance(form, Form):
            return Packets(form, names[0])
        return Via(*names) if pattern == VIA else Told(pattern, "".join(names))
    return None


_PATTERNS: Final[dict[str, Form | None]] = (
    {form.source: form for form in FORMS} | {VIA: None} | dict.fromkeys(CONTROL_PATTERNS)
)


def _names(words: list[str], pattern: list[str]) -> list[str] | None:
    """The words where the pattern has `*`, None if it does not match."""
    if len(words) != len(pattern):
        return None
    if any(theirs not in ("*", word) for word, theirs in zip(words, pattern, strict=True)):
        return None
    return [word for word, theirs in zip(words, pattern, strict=True) if theirs == "*"]


def receiver_of(key: str) -> str | None:
    """Whom a message that nobody took was for: keys that we publish under."""
    words = key.split(".")
    if words[:2] == ["tumpline", "packet"] and len(words) == 4:
        return words[2]
    for form in FORMS:
        if names := _names(words, form.target.split(".")):
            return names[0]
    return None
