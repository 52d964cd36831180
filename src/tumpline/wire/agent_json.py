"""Control messages of the older packet agents: JSON objects about an interface that is to be opened, or is open.

Two generations, as in `packet_json`: in version 1 the routing key says what a message is, in version 0 its `_type`. Agents
differ in what they fill in, so that everything may be missing; addresses come in pieces, which `addresses` puts together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, IPv6Network
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from tumpline.errors import MalformedError
from tumpline.wire.agent_keys import (
    COMPONENT_READY,
    COMPONENT_SHUTDOWN,
    LOSSY_LINK_START,
    TERMINATE,
    Topic,
)
from tumpline.wire.packet_json import API_VERSION, TEXT_OCTETS_MOST, Generation

CONTROL_OCTETS_MOST: Final = 64 << 10
READY_DESCRIPTION: Final = "Component READY to start test suite."
_PREFIX_BITS: Final = 64  # of every IPv6 prefix that these agents name
_IPV4_BITS: Final = 24  # where no netmask is told


class ControlKind(Enum):
    """What a message asks or tells: `_type` of version 0."""

    TUN_START = "tun.start"
    TUN_STARTED = "tun.started"
    SERIAL_START = "serial.start"
    SERIAL_STARTED = "serial.started"
    COMPONENT_READY = "testingtool.component.ready"
    COMPONENT_SHUTDOWN = "testingtool.component.shutdown"
    AGENT_CONFIGURED = "agent.configured"  # version 0 alone
    TERMINATE = "testingtool.terminate"
    LOSSY_LINK_START = "routing.lossy.link.start"


_KIND_OF_TOPIC: Final = {
    Topic.TUN_START: ControlKind.TUN_START,
    Topic.TUN_STARTED: ControlKind.TUN_STARTED,
    Topic.SERIAL_START: ControlKind.SERIAL_START,
    Topic.SERIAL_STARTED: ControlKind.SERIAL_STARTED,
}
_KIND_OF_KEY: Final = {
    COMPONENT_READY: ControlKind.COMPONENT_READY,
    COMPONENT_SHUTDOWN: ControlKind.COMPONENT_SHUTDOWN,
    TERMINATE: ControlKind.TERMINATE,
    LOSSY_LINK_START: ControlKind.LOSSY_LINK_START,
}


class Tun(NamedTuple):
    """An interface that is to be opened, or was. Texts are as on the wire: prefixes without "::", hosts with or without ":"."""

    name: str | None = None
    ipv6_prefix: str | None = None
    ipv6_host: str | None = None
    ipv6_no_forwarding: bool | None = None
    ipv4_address: str | None = None  # of agents since 0.2; not what stock coordinators send
    ipv4_host: str | None = None
    ipv4_network: str | None = None
    ipv4_netmask: str | None = None
    re_route_packets_if: str | None = None
    re_route_packets_prefix: str | None = None
    re_route_packets_host: str | None = None


class Serial(NamedTuple):
    """A probe that is to be opened, or was."""

    name: str | None = None
    port: str | None = None
    baud_rate: str | None = None


class Component(NamedTuple):
    """Somebody is there, or goes."""

    component: str | None = None
    description: str | None = None


class LossyLink(NamedTuple):
    """The next packets are to be dropped."""

    packets: int = 1


Control = Tun | Serial | Component | LossyLink
LOSSY_PACKETS_MOST: Final = 1_000_000  # more is a mistake, and would silence a session


class ControlMessage(NamedTuple):
    """A body, and what it says."""

    kind: ControlKind
    body: Control


def control_kind_of(routing_key: str, topic: Topic | None) -> ControlKind | None:
    """What version 1 says by its key (`topic` from `read_agent_key`, None for a common key); None: the body has to say it."""
    return _KIND_OF_KEY.get(routing_key) if topic is None else _KIND_OF_TOPIC.get(topic)


# ---- writing ---------------------------------------------------------------------------------------------------------


def encode_control(kind: ControlKind, body: Control, generation: Generation) -> bytes:
    """A body; keys are sorted, as the agents have them."""
    fields = body._asdict()
    if isinstance(body, Serial):
        fields["boudrate"] = fields.pop("baud_rate")  # so they spell it
    elif isinstance(body, LossyLink):
        fields = {"number_of_packets_to_drop": body.packets}
    if generation is Generation.V1:
        fields["_api_version"] = API_VERSION
    else:
        fields["_type"] = kind.value
    return json.dumps(fields, sort_keys=True).encode()


# ---- reading ---------------------------------------------------------------------------------------------------------

_Text = Annotated[str, msgspec.Meta(max_length=TEXT_OCTETS_MOST)]
_Word = _Text | Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)] | None
_Quad = Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=255)]], msgspec.Meta(min_length=4, max_length=4)]


class _Body(msgspec.Struct):
    """Of all kinds: nobody uses one name for two things."""

    type: _Text | None = msgspec.field(default=None, name="_type")
    name: _Text | None = None
    ipv6_prefix: _Word = None
    ipv6_host: _Word = None
    ipv6_no_forwarding: bool | None = None
    ipv4_address: _Text | _Quad | None = None
    ipv4_host: _Word | _Quad = None
    ipv4_network: _Text | _Quad | None = None  # agents before 0.2 wrote a list
    ipv4_netmask: _Text | _Quad | None = None
    re_route_packets_if: _Text | None = None
    re_route_packets_prefix: _Word = None
    re_route_packets_host: _Word = None
    port: _Text | None = None
    boudrate: _Word = None
    component: _Text | None = None
    description: _Text | None = None
    number_of_packets_to_drop: Annotated[int, msgspec.Meta(ge=0, le=LOSSY_PACKETS_MOST)] | None = None


_DECODER: Final = msgspec.json.Decoder(_Body)


def decode_control_untrusted(body: bytes | memoryview, kind: ControlKind | None) -> ControlMessage:
    """A message; `kind` is what the key said (`control_kind_of`), None: the body says it. Raises: MalformedError."""
    if len(body) > CONTROL_OCTETS_MOST:
        raise MalformedError(f"control message: {len(body)} octets, at most {CONTROL_OCTETS_MOST} make sense")
    try:
        decoded = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # the last: nested too deep
        raise MalformedError(f"control message: {error}") from error
    return _message(kind or _kind_of(decoded.type), decoded)


def _kind_of(text: str | None) -> ControlKind:
    try:
        return ControlKind(text)
    except ValueError as error:
        raise MalformedError(f"control message: {text!r} is no kind of message") from error


def _message(kind: ControlKind, decoded: _Body) -> ControlMessage:
    if kind in (ControlKind.TUN_START, ControlKind.TUN_STARTED):
        values = {name: getattr(decoded, name) for name in Tun._fields}
        return ControlMessage(kind, Tun(**{name: _as_text(value) for name, value in values.items()}))
    if kind in (ControlKind.SERIAL_START, ControlKind.SERIAL_STARTED):
        return ControlMessage(kind, Serial(decoded.name, decoded.port, _as_text(decoded.boudrate)))
    if kind is ControlKind.LOSSY_LINK_START:
        packets = decoded.number_of_packets_to_drop
        return ControlMessage(kind, LossyLink(1 if packets is None else packets))
    return ControlMessage(kind, Component(decoded.component or decoded.name, decoded.description))


def _as_text(value: Any) -> Any:
    """Numbers and dotted quads as texts; everything else stays."""
    if isinstance(value, list):
        return ".".join(map(str, value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# ---- addresses -------------------------------------------------------------------------------------------------------


def addresses(tun: Tun) -> tuple[IPv4Interface | IPv6Interface, ...]:
    """Of the interface, with its networks; the link-local one too, which has the same host. Raises: MalformedError."""
    try:
        return (*_ipv6_of(tun), *_ipv4_of(tun))
    except ValueError as error:
        raise MalformedError(f"control message: no address can be made of it: {error}") from error


def tun_of(name: str, interfaces: Iterable[IPv4Interface | IPv6Interface]) -> Tun:
    """What an agent says of its open interface: the first address of each family that is not link-local."""
    tun = Tun(name=name, ipv6_no_forwarding=False)
    for interface in interfaces:
        if isinstance(interface, IPv4Interface):
            if tun.ipv4_address is None:
                network = interface.network
                tun = tun._replace(
                    ipv4_address=str(interface.ip), ipv4_network=str(network[0]), ipv4_netmask=str(network.netmask)
                )
        elif tun.ipv6_prefix is None and not interface.is_link_local:
            prefix, host = divmod(int(interface.ip), 1 << _PREFIX_BITS)
            tun = tun._replace(
                ipv6_prefix=str(IPv6Address(prefix << _PREFIX_BITS)).rstrip(":"),
                ipv6_host=str(IPv6Address(host)).lstrip(":"),
            )
    return tun


def network_behind(tun: Tun) -> IPv6Network | None:
    """To which the agent forwards from its interface, if it was told to. Raises: MalformedError."""
    if not tun.re_route_packets_prefix:
        return None
    try:
        return IPv6Network((_joined(tun.re_route_packets_prefix, ""), _PREFIX_BITS), strict=False)
    except ValueError as error:
        raise MalformedError(f"control message: no network can be made of it: {error}") from error


def _ipv6_of(tun: Tun) -> list[IPv6Interface]:
    if not tun.ipv6_prefix or not tun.ipv6_host:
        return []
    return [IPv6Interface((_joined(prefix, tun.ipv6_host), _PREFIX_BITS)) for prefix in (tun.ipv6_prefix, "fe80")]


def _joined(prefix: str, host: str) -> IPv6Address:
    """`bbbb` and `:3` or `3` are bbbb::3; `bbbb:0:0:1` and `1:2:3:4` need no "::" between them."""
    left, right = prefix.rstrip(":"), host.lstrip(":")
    whole = left.count(":") + right.count(":") == 6 and bool(right)
    return IPv6Address(f"{left}:{right}" if whole and "::" not in left + right else f"{left}::{right}")


def _ipv4_of(tun: Tun) -> list[IPv4Interface]:
    address = tun.ipv4_address or (tun.ipv4_host if "." in (tun.ipv4_host or "") else None)
    if not address:
        return []
    if "/" in address:
        return [IPv4Interface(address)]
    return [IPv4Interface(f"{address}/{tun.ipv4_netmask or _IPV4_BITS}")]
