"""What agents and members tell of themselves: the directory's sources beside the packets."""

from __future__ import annotations

from typing import Final

from tumpline.machines.packet_router.directory import Directory
from tumpline.machines.packet_router.keys import FORM_OF
from tumpline.machines.packet_router.passing import Passing
from tumpline.machines.packet_router.shares import Message
from tumpline.machines.packets import PacketKind
from tumpline.wire.agent_json import (
    Component,
    ControlKind,
    LossyLink,
    Serial,
    Tun,
    addresses,
    control_kind_of,
    decode_control_untrusted,
    network_behind,
)
from tumpline.wire.agent_keys import is_agent_name, read_agent_key
from tumpline.wire.overlay import Claim
from tumpline.wire.packet_json import Generation

_LINK_LOCAL: Final = b"\xfe\x80"  # link-local addresses are each agent's own business: several have the same


class News:
    """Reads messages; the directory keeps what they say."""

    def __init__(self, directory: Directory, passing: Passing) -> None:
        self._directory = directory
        self._passing = passing

    def heard(self, message: Message, now: float) -> None:
        """A control message of older agents. Raises: MalformedError."""
        key = read_agent_key(message.routing_key)
        kind = control_kind_of(message.routing_key, None if key is None else key.topic)
        told = decode_control_untrusted(message.body, kind)
        generation = Generation.V1 if kind is not None else Generation.V0
        match told.body:
            case LossyLink(packets):
                self._passing.lossy_left = packets
            case Tun() as tun if told.kind is ControlKind.TUN_STARTED:
                name = key.name if key is not None else tun.name
                self._tun_started(name or "", tun, generation, now)
            case Serial(name=said) if told.kind is ControlKind.SERIAL_STARTED:
                self._serial_started(key.name if key is not None else said or "", generation, now)
            case Component(component) if told.kind is ControlKind.COMPONENT_SHUTDOWN:
                self._shut_down(component or "")
            case _:
                pass  # somebody is ready: nothing to an agent until it has a port

    def _tun_started(self, name: str, tun: Tun, generation: Generation, now: float) -> None:
        if not is_agent_name(name):
            return
        hosts = [Claim(each.ip.packed, 8 * len(each.ip.packed)) for each in addresses(tun)]
        claims = [host for host in hosts if not host.address.startswith(_LINK_LOCAL)]
        if (network := network_behind(tun)) is not None:
            claims.append(Claim(network.network_address.packed, network.prefixlen))
        self._directory.started(name, claims, FORM_OF[PacketKind.IP, generation], now)

    def _serial_started(self, name: str, generation: Generation, now: float) -> None:
        if is_agent_name(name):
            self._directory.heard(name, FORM_OF[PacketKind.FRAME, generation], now)

    def _shut_down(self, name: str) -> None:
        agent = self._directory.agents.get(name)
        if agent is not None and not agent.is_member:
            self._directory.forget(name)
