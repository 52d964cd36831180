"""Routing keys of the older packet agents, both generations.

version 1   fromAgent.NAME.ip.tun.packet.raw    toAgent.NAME.ip.tun.packet.raw    ...802154.serial... for radio frames
version 0   data.tun.fromAgent.NAME             data.tun.toAgent.NAME             data.serial...
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from tumpline.wire.overlay import Kind, name_problem
from tumpline.wire.packet_json import Generation


class Direction(Enum):
    """Agents publish `fromAgent`, and listen to `toAgent`."""

    FROM = "fromAgent"
    TO = "toAgent"


class OlderKey(NamedTuple):
    """A routing key of packets. `kind` is IP or FRAME."""

    generation: Generation
    direction: Direction
    name: str  # "*" in a binding: any agent
    kind: int

    def __str__(self) -> str:
        if self.generation is Generation.V1:
            return f"{self.direction.value}.{self.name}.{_V1_WORDS[self.kind]}"
        return f"data.{_V0_WORDS[self.kind]}.{self.direction.value}.{self.name}"


_V1_WORDS: Final = {int(Kind.IP): "ip.tun.packet.raw", int(Kind.FRAME): "802154.serial.packet.raw"}
_V0_WORDS: Final = {int(Kind.IP): "tun", int(Kind.FRAME): "serial"}
_V1_KINDS: Final = {words: kind for kind, words in _V1_WORDS.items()}
_V0_KINDS: Final = {word: kind for kind, word in _V0_WORDS.items()}
_DIRECTIONS: Final = {direction.value: direction for direction in Direction}


def packet_key_of(routing_key: str) -> OlderKey | None:
    """What a key says if it is one of packets; control messages, and names that cannot be, are None."""
    first, _, rest = routing_key.partition(".")
    if first == "data":
        word, direction, name = ([*rest.split("."), "", "", ""])[:3]
        kind, generation = _V0_KINDS.get(word), Generation.V0
    else:
        direction = first
        name, _, words = rest.partition(".")
        kind, generation = _V1_KINDS.get(words), Generation.V1
    if kind is None or direction not in _DIRECTIONS or name_problem(name):
        return None
    key = OlderKey(generation, _DIRECTIONS[direction], name, kind)
    return key if str(key) == routing_key else None
