"""From what a person wrote to an agent's settings; every mistake is one sentence that says what to write."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from tumpline.drivers.amqp import AmqpUrl
from tumpline.drivers.capture_files import FILES_MOST, Bounds
from tumpline.drivers.overlay import AttachmentConfig
from tumpline.drivers.overlay.keys import new_identity, read_identity, read_key, read_pins
from tumpline.errors import ConfigError, TumplineError
from tumpline.machines.overlay import MemberConfig, Via
from tumpline.machines.packets import PacketKind
from tumpline.machines.quantities import parse_size
from tumpline.node.overlay.addresses import Asked, addresses_of, link_local_of
from tumpline.node.overlay.agent import TunnelSettings
from tumpline.node.overlay.dump import DumpConfig
from tumpline.node.overlay.rerouting import rerouted
from tumpline.node.overlay.starting import Beyond, claims_of, generations_of
from tumpline.node.registry import load_ports
from tumpline.wire.overlay import INSTANCE_OCTETS, Format, name_problem

DUMP_OCTETS_LEAST: Final = 1 << 20  # less would be a file for each few packets


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The options of `tumpline tunnel connect`, by their names."""

    name: str
    url: str
    exchange: str = "amq.topic"
    format: str = "auto"
    via: str = "auto"
    key: Path | None = None
    identity: Path | None = None
    peer: tuple[str, ...] = ()
    ca: Path | None = None
    address: tuple[str, ...] = ()
    ipv6_prefix: str | None = None
    ipv6_host: str | None = None
    ipv4_address: str | None = None
    interface: str = ""
    device: str | None = None
    mtu: int | None = None
    force_bootstrap: bool = True
    re_route_packets_if: str | None = None
    re_route_packets_prefix: str | None = None
    re_route_packets_host: str | None = None
    serial: bool = False
    serial_port: str | None = None
    baudrate: int | None = None
    dialect: str | None = None
    passive: bool = False
    trailer: str | None = None
    channel: int | None = None
    pan_id: str | None = None
    short_address: str | None = None
    flow_control: bool = False
    dump: Path | None = None
    dump_size: str = "100 MiB"
    dump_files: int = FILES_MOST
    dump_by_version: bool = False


def settings_of(wish: Wish) -> TunnelSettings:
    """Raises: ConfigError, one sentence a mistake."""
    if (problem := name_problem(wish.name)) is not None:
        raise ConfigError(f"--name {wish.name}: {problem}")
    scheme, told = _serial(wish) if wish.serial else _tun(wish)
    spec = load_ports().get(scheme)
    port = _convert({name: value for name, value in told.items() if value is not None}, spec.config)
    if wish.exchange.startswith("amq.") and wish.exchange != "amq.topic":
        raise ConfigError(f"--exchange {wish.exchange}: that is no topic exchange; write amq.topic")
    member, beyond = _member(wish), _beyond(wish, port)
    at_once = wish.force_bootstrap or wish.serial  # nobody ever asked probes to start
    if not at_once and not generations_of(member.formats):
        raise ConfigError("--wait-for-bootstrap: coordinators write in the clear; leave --key and --format binary away")
    if at_once and not wish.serial:
        member = member._replace(addresses=claims_of(filter(None, (*port.addresses, port.link_local)), beyond.networks))
    return TunnelSettings(
        AttachmentConfig(_broker(wish), member, wish.exchange),
        spec,
        port,
        opens_at_once=at_once,
        beyond=beyond,
        dump=_dump(wish),
    )


def _convert(told: dict[str, Any], config: type[Any]) -> Any:
    try:
        return msgspec.convert(told, config)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise ConfigError(f"--{path.rstrip('`')}: {message[:1].lower()}{message[1:]}") from error


def _member(wish: Wish) -> MemberConfig:
    return MemberConfig(
        name=wish.name,
        kinds=(PacketKind.FRAME if wish.serial else PacketKind.IP,),
        started_ms=time.time_ns() // 1_000_000,
        formats=_formats(wish),
        via=Via(wish.via),
        given_key=read_key(wish.key) if wish.key is not None else None,
        identity=read_identity(wish.identity) if wish.identity is not None else new_identity(),
        pins=read_pins(wish.peer),
        instance=secrets.token_bytes(INSTANCE_OCTETS),
    )


def _formats(wish: Wish) -> tuple[Format, ...]:
    """Who gave a key wants nothing of what it sends to be read: older formats only if they are asked for."""
    if wish.format != "auto":
        return (Format(wish.format),)
    return (Format.BINARY,) if wish.key is not None else tuple(Format)


def _beyond(wish: Wish, port: Any) -> Beyond:
    behind = getattr(port, "behind", None)
    networks = tuple(behind.networks) if behind is not None else ()
    return Beyond(wish.re_route_packets_if, wish.re_route_packets_prefix, wish.re_route_packets_host, networks)


def _tun(wish: Wish) -> tuple[str, dict[str, Any]]:
    # Not --serial-port and --baudrate: the environment may name a probe that this time is not wanted.
    for option in ("dialect", "passive", "trailer", "channel", "pan_id", "short_address", "flow_control"):
        if getattr(wish, option) not in (None, False):
            raise ConfigError(f"--{option.replace('_', '-')} is for a radio probe: add --serial")
    asked = Asked(wish.address, wish.ipv6_prefix, wish.ipv6_host, wish.ipv4_address)
    addresses = addresses_of(wish.name, asked)
    return "tun", {
        "name": wish.interface,
        "device": wish.device or "",
        "addresses": addresses,
        "link_local": link_local_of(addresses),
        "mtu": wish.mtu,
        # Older formats carry packets as they cross a wire, one a message.
        "super_packets": Format.BINARY in _formats(wish),
        **rerouted(
            wish.name,
            wish.ipv6_prefix,
            wish.re_route_packets_if,
            wish.re_route_packets_prefix,
            wish.re_route_packets_host,
        ),
    }


def _serial(wish: Wish) -> tuple[str, dict[str, Any]]:
    if wish.serial_port is None:
        raise ConfigError("--serial: where is the probe? write --serial-port /dev/ttyUSB0")
    return "serial", {
        "device": wish.serial_port,
        "baudrate": wish.baudrate,
        "dialect": wish.dialect,
        "mode": "passive" if wish.passive else "active",
        "trailer": wish.trailer,
        "channel": wish.channel,
        "pan_id": _two_octets("--pan-id", wish.pan_id),
        "short_address": _two_octets("--short-address", wish.short_address),
        "flow_control": wish.flow_control,
    }


def _two_octets(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if not 0 <= value <= 0xFFFF:
        raise ConfigError(f"{option} {text}: write it in hexadecimal, such as abcd")
    return value


def _dump(wish: Wish) -> DumpConfig | None:
    if wish.dump is None:
        return None
    size = parse_size(wish.dump_size)
    if size < DUMP_OCTETS_LEAST or wish.dump_files < 1:
        raise ConfigError("--dump-size, --dump-files: write at least 1 MiB and 1")
    return DumpConfig(wish.dump, Bounds(size, wish.dump_files), wish.dump_by_version)


def _broker(wish: Wish) -> AmqpUrl:
    try:
        url = AmqpUrl.parse(wish.url)
    except TumplineError as error:
        raise ConfigError(f"--url: {error}") from error
    if wish.ca is None:
        return url
    if not url.is_tls:
        raise ConfigError("--ca: the URL begins with amqp://, which is not encrypted; write amqps://")
    return url._replace(ca=str(wish.ca))
