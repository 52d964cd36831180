"""Opening the agent's port: at once, or when a coordinator says so; and saying so to the session as older agents do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from ipaddress import ip_interface, ip_network
from typing import Any, Final, NamedTuple

from tumpline.drivers.overlay import Attachment, PortDown, PortUp, SessionJoined
from tumpline.errors import TumplineError
from tumpline.machines.overlay import ControlReceived
from tumpline.machines.overlay.older import Bootstrap, OpenTun, Say, StartRefused
from tumpline.wire.agent_json import (
    Serial,
    Tun,
    addresses,
    tun_of,
)
from tumpline.wire.agent_keys import COMPONENT_READY, SESSION_CONTROL
from tumpline.wire.amqp import Properties
from tumpline.wire.overlay import Claim, Format
from tumpline.wire.packet_json import Generation

# Older agents decode what says what it is, and nothing else.
JSON: Final = Properties(content_type="application/json", content_encoding="utf-8")


class PortFailed(NamedTuple):
    """A coordinator asked for an interface that cannot be opened."""

    reason: str


class Beyond(NamedTuple):
    """What is tested lies behind this further interface; coordinators are told so."""

    interface: str | None = None
    prefix: str | None = None
    host: str | None = None
    networks: tuple[str, ...] = ()


class Starter:
    """Between an attachment, its port, and coordinators. `open_tun` opens a port with these addresses."""

    def __init__(
        self,
        attachment: Attachment,
        bootstrap: Bootstrap,
        beyond: Beyond,
        open_tun: Callable[[list[str]], Coroutine[Any, Any, None]],
        spawn: Callable[[Coroutine[Any, Any, None], str], Any],
        tell: Callable[[Any], None],
    ) -> None:
        self._attachment = attachment
        self._bootstrap = bootstrap
        self._beyond = beyond
        self._open_tun = open_tun
        self._spawn = spawn
        self._tell = tell
        self._performers: dict[type[Any], Callable[[Any], None]] = {
            SessionJoined: lambda _: bootstrap.joined(),
            ControlReceived: self._control,
            PortUp: self._port_up,
            PortDown: lambda _: bootstrap.ended(),
        }

    def heard(self, event: Any) -> None:
        """What the attachment tells."""
        if (performer := self._performers.get(type(event))) is not None:
            performer(event)
            self._perform()

    def _control(self, event: ControlReceived) -> None:
        self._bootstrap.heard(event.routing_key, event.body)
        if event.routing_key in (COMPONENT_READY, SESSION_CONTROL):
            self._attachment.look_for_router()  # it may have been one that said so

    def _port_up(self, event: PortUp) -> None:
        name, found = self._attachment.config.member.name, event.facts.get("addresses")
        if found is None:
            told: Tun | Serial = Serial(name, event.name, str(event.facts.get("baudrate", "")))
        else:
            beyond = self._beyond
            told = tun_of(name, map(ip_interface, found))._replace(
                re_route_packets_if=beyond.interface,
                re_route_packets_prefix=beyond.prefix,
                re_route_packets_host=beyond.host,
            )
            self._attachment.set_addresses(claims_of(found, beyond.networks))
        self._bootstrap.opened(told)

    def _perform(self) -> None:
        for output in self._bootstrap.outputs():
            match output:
                case Say(key, body):
                    self._attachment.publish(key, body, JSON)
                case OpenTun(tun):
                    self._spawn(self._open([str(each) for each in addresses(tun)]), "open port")
                case StartRefused(reason):
                    self._tell(PortFailed(reason))

    async def _open(self, wanted: list[str]) -> None:
        try:
            await self._open_tun(wanted)
        except TumplineError as error:  # the coordinator may ask again, for something else
            self._bootstrap.ended()
            self._tell(PortFailed(str(error)))


def generations_of(formats: Iterable[Format]) -> list[Generation]:
    """Of older agents: those that are spoken with."""
    known = {Format.V1: Generation.V1, Format.V0: Generation.V0}
    return [known[each] for each in formats if each in known]


def claims_of(found: Iterable[str], networks: Iterable[str] = ()) -> tuple[Claim, ...]:
    """What a member says of its addresses, and of the networks behind it. Link-local ones are everybody's own, and said
    nevertheless: members reach each other by them."""
    interfaces = [ip_interface(address) for address in found]
    own = [Claim(each.ip.packed, each.network.prefixlen) for each in interfaces]
    behind = [Claim(each.network_address.packed, each.prefixlen) for each in map(ip_network, networks)]
    return (*own, *behind)
