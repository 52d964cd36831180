"""The routing keys of the older packet agents: who says what to whom.

Version 1 writes `fromAgent.NAME.ip.tun.packet.raw`, version 0 `data.tun.fromAgent.NAME`. In version 0 the control keys of one
agent are common to all kinds of messages; the body says which it is (`agent_json`).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from tumpline.wire.packet_json import Generation

NAME_OCTETS_MOST: Final = 64  # of an agent; older ones never look, and a routing key has 255 for everything
_RESERVED: Final = frozenset(("fromAgent", "toAgent", "tumpline"))


class Direction(Enum):
    """Seen from the agent that is named in the key."""

    FROM_AGENT = "fromAgent"
    TO_AGENT = "toAgent"


class Topic(Enum):
    """What the messages under a key are about; the value is how version 1 ends its keys, if it has any."""

    IP_PACKET = "ip.tun.packet.raw"
    FRAME = "802154.serial.packet.raw"
    TUN_START = "ip.tun.start"
    TUN_STARTED = "ip.tun.started"
    SERIAL_START = "802154.serial.start"
    SERIAL_STARTED = "802154.serial.started"
    CONTROL = "control"  # version 0: any of the four before


class AgentKey(NamedTuple):
    """A routing key, taken apart."""

    generation: Generation
    direction: Direction
    name: str
    topic: Topic
    is_serial: bool


# Keys of everybody's, the same for all agents.
COMPONENT_READY: Final = "testingtool.component.ready"
COMPONENT_SHUTDOWN: Final = "testingtool.component.shutdown"
TERMINATE: Final = "testingtool.terminate"
LOSSY_LINK_START: Final = "routing.lossy.link.start"
SESSION_CONTROL: Final = "control.session"  # version 0: the first three, by what the body says

_V1_TOPICS: Final[dict[str, Topic]] = {topic.value: topic for topic in Topic if topic is not Topic.CONTROL}
_DIRECTIONS: Final = {direction.value: direction for direction in Direction}
_V0_FAMILIES: Final = {
    ("data", "tun"): Topic.IP_PACKET,
    ("data", "serial"): Topic.FRAME,
    ("control", "tun"): Topic.CONTROL,
    ("control", "serial"): Topic.CONTROL,
}
_PACKETS: Final = {Topic.IP_PACKET: "tun", Topic.FRAME: "serial"}


def is_agent_name(text: str) -> bool:
    """One word of a routing key that no other word is taken for."""
    return (
        0 < len(text.encode("utf-8", "surrogatepass")) <= NAME_OCTETS_MOST
        and text not in _RESERVED
        and text.isprintable()
        and not any(character in ".*#" or character.isspace() for character in text)
    )


def read_agent_key(routing_key: str) -> AgentKey | None:
    """None: no key of an older agent's, or of an agent without a proper name."""
    words = routing_key.split(".")
    topic: Topic | None = None
    if words[0] in _DIRECTIONS and len(words) >= 3:
        topic = _V1_TOPICS.get(".".join(words[2:]))
        generation, direction, name, is_serial = Generation.V1, _DIRECTIONS[words[0]], words[1], words[2] == "802154"
    elif len(words) == 4 and words[2] in _DIRECTIONS:
        topic = _V0_FAMILIES.get((words[0], words[1]))
        generation, direction, name, is_serial = Generation.V0, _DIRECTIONS[words[2]], words[3], words[1] == "serial"
    if topic is None or not is_agent_name(name):
        return None
    return AgentKey(generation, direction, name, topic, is_serial)


def packet_key(generation: Generation, direction: Direction, name: str, topic: Topic) -> str:
    """Of IP packets or frames. `name` may be `*`, for a binding."""
    if generation is Generation.V1:
        return f"{direction.value}.{name}.{topic.value}"
    return f"data.{_PACKETS[topic]}.{direction.value}.{name}"


def control_key(generation: Generation, direction: Direction, name: str, topic: Topic) -> str:
    """Of a control message of one agent. `name` may be `*`, for a binding."""
    if generation is Generation.V1:
        return f"{direction.value}.{name}.{topic.value}"
    family = "serial" if topic in (Topic.SERIAL_START, Topic.SERIAL_STARTED) else "tun"
    return f"control.{family}.{direction.value}.{name}"
