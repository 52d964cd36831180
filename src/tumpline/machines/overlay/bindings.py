"""What a member's queue is bound to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.overlay.older_packets import key_of
from tumpline.machines.overlay.routes import generations_of
from tumpline.machines.packets import PacketKind
from tumpline.wire.agent_keys import COMPONENT_READY, SESSION_CONTROL, Direction, Topic, control_key
from tumpline.wire.overlay import WHO, Format, OverlayKey, Purpose, Role
from tumpline.wire.packet_json import Generation

HELLOS: Final = str(OverlayKey(Purpose.HELLO, "", "*"))
_START: Final = {PacketKind.IP: Topic.TUN_START, PacketKind.FRAME: Topic.SERIAL_START}
_STARTED: Final = {PacketKind.IP: Topic.TUN_STARTED, PacketKind.FRAME: Topic.SERIAL_STARTED}


def bindings_of(config: MemberConfig, is_router_there: bool) -> tuple[str, ...]:
    """All of them. What agents say to all is heard unless a router of ours passes it on."""
    found = [HELLOS, WHO, str(OverlayKey(Purpose.BUNDLE, config.name, "*"))]
    takes_packets = bool(config.kinds) or config.role is Role.ROUTER
    if Format.BINARY in config.formats and takes_packets:
        found += [str(OverlayKey(Purpose.PACKET, config.name, "*")), str(OverlayKey(Purpose.FLOOD, "", "*"))]
    for generation in generations_of(config.formats):
        found.append(COMPONENT_READY if generation is Generation.V1 else SESSION_CONTROL)
        # Word by word, as older agents do: a `#` costs RabbitMQ 3 us more for each packet.
        found += _heard(config, Direction.TO_AGENT, config.name, (generation,))
        found += [control_key(generation, Direction.TO_AGENT, config.name, _START[kind]) for kind in config.kinds]
        found += [control_key(generation, Direction.FROM_AGENT, "*", _STARTED[kind]) for kind in config.kinds]
    if not is_router_there:
        found += _heard(config, Direction.FROM_AGENT, "*", generations_of(config.formats))
    return tuple(found)


def _heard(config: MemberConfig, direction: Direction, name: str, generations: Iterable[Generation]) -> list[str]:
    return [key_of(generation, direction, name, kind) for generation in generations for kind in config.kinds]
