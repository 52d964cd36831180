"""What a member's queue is bound to."""

from __future__ import annotations

from typing import Final

from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.packets import PacketKind
from tumpline.wire.older_keys import Direction, OlderKey
from tumpline.wire.overlay import WHO, Format, OverlayKey, Purpose
from tumpline.wire.packet_json import Generation

HELLOS: Final = str(OverlayKey(Purpose.HELLO, "", "*"))
READY_V1: Final = "testingtool.component.ready"
SESSION_V0: Final = "control.session"
_STARTED_V1: Final = {
    PacketKind.IP: "fromAgent.*.ip.tun.started",
    PacketKind.FRAME: "fromAgent.*.802154.serial.started",
}
_V0_WORDS: Final = {PacketKind.IP: "tun", PacketKind.FRAME: "serial"}


def bindings_of(config: MemberConfig, is_router_there: bool) -> tuple[str, ...]:
    """All of them. What agents say to all is heard unless a router of ours passes it on."""
    found = [HELLOS, WHO, str(OverlayKey(Purpose.BUNDLE, config.name, "*"))]
    if Format.BINARY in config.formats and config.kinds:
        found += [str(OverlayKey(Purpose.PACKET, config.name, "*")), str(OverlayKey(Purpose.FLOOD, "", "*"))]
    if Format.V1 in config.formats:
        found += [f"toAgent.{config.name}.#", READY_V1, *(_STARTED_V1[kind] for kind in config.kinds)]
    if Format.V0 in config.formats:
        found.append(SESSION_V0)
        for kind in config.kinds:
            found.append(str(OlderKey(Generation.V0, Direction.TO, config.name, kind)))
            found += [f"control.{_V0_WORDS[kind]}.{way}" for way in (f"toAgent.{config.name}", "fromAgent.*")]
    return tuple(found) if is_router_there else (*found, *_heard_from_all(config))


def _heard_from_all(config: MemberConfig) -> list[str]:
    spoken = [(Format.V1, Generation.V1), (Format.V0, Generation.V0)]
    generations = [generation for one, generation in spoken if one in config.formats]
    return [str(OlderKey(generation, Direction.FROM, "*", kind)) for generation in generations for kind in config.kinds]
