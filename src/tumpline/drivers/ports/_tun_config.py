"""What is asked of a TUN device, on whatever system."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from typing import Annotated

import msgspec

from tumpline.drivers.ports._interface import Behind, Wanted
from tumpline.drivers.ports._netlink import Interface, Network
from tumpline.drivers.ports._tun_linux import NAME_OCTETS_MOST
from tumpline.errors import ConfigError
from tumpline.machines.packets import PACKET_OCTETS_MOST


class BehindConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A second network of this machine that the overlay's members shall reach: packets go on between the two."""

    interface: str
    """Where it is, such as eth1."""
    networks: list[str] = msgspec.field(default_factory=list)
    """What lies there, such as aaaa::/64; routes are added, and removed at the end."""


class TunConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A TUN device of this machine."""

    name: str = ""
    """Of the new interface; by default the first of tumpline0, tumpline1, ... that is free."""
    device: str = ""
    """Join this interface, which somebody made for us, in place of making one: for users without rights."""
    fd: Annotated[int, msgspec.Meta(ge=-1)] = -1
    """Or this open device, whose interface is configured already."""
    addresses: list[str] = msgspec.field(default_factory=list)
    """Such as bbbb::1/64 and 10.2.0.1/24."""
    link_local: str = ""
    """Such as fe80::1/64."""
    mtu: Annotated[int, msgspec.Meta(ge=1280, le=PACKET_OCTETS_MOST)] = 1500
    """Longest packet, in octets; those of other members should be the same."""
    queue_packets: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    """That wait in the kernel while we are busy or the link is congested; more are dropped."""
    super_packets: bool = True
    """Take up to 64 KiB at once from the kernel, uncut and without checksums. Where every packet leaves in a message of its
    own the kernel cuts and sums faster than we do."""
    routes: list[str] = msgspec.field(default_factory=list)
    """Further networks that lie beyond the overlay."""
    route_metric: Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)] = 0
    """Of all routes that are added; 0 is the system's own."""
    behind: BehindConfig | None = None
    """A second network of this machine that others shall reach."""


def wanted(config: TunConfig) -> Wanted:
    """Raises: ConfigError with every mistake."""
    problems = list(_names(config))
    addresses = [each for text in config.addresses if (each := _interface(text, "addresses", problems))]
    if config.link_local and (address := _interface(config.link_local, "link_local", problems)):
        if not address.ip.is_link_local:
            problems.append(f"tun.link_local: {config.link_local} is no link-local address; write such as fe80::1/64")
        addresses.append(address)
    routes = [to for text in config.routes if (to := _network(text, "routes", problems))]
    behind = None
    if config.behind is not None:
        networks = [to for text in config.behind.networks if (to := _network(text, "behind.networks", problems))]
        behind = Behind(config.behind.interface, networks)
    if problems:
        raise ConfigError(problems)
    return Wanted(addresses, config.mtu, config.queue_packets, routes, config.route_metric, behind)


def _names(config: TunConfig) -> Iterator[str]:
    if sum((bool(config.name), bool(config.device), config.fd >= 0)) > 1:
        yield "tun: name, device and fd exclude each other; keep one"
    for key, name in (("name", config.name), ("device", config.device)):
        if len(name.encode()) > NAME_OCTETS_MOST or set(name) & set("/: \t\n%") or name in (".", ".."):
            yield f"tun.{key}: no interface can be called {name!r}; 1 to {NAME_OCTETS_MOST} octets without / : %"


def _interface(text: str, key: str, problems: list[str]) -> Interface | None:
    try:
        return ip_interface(text)
    except ValueError as error:
        problems.append(f"tun.{key}: {error}; write such as bbbb::1/64 or 10.2.0.1/24")
        return None


def _network(text: str, key: str, problems: list[str]) -> Network | None:
    try:
        return ip_network(text)
    except ValueError as error:
        problems.append(f"tun.{key}: {error}; write such as cccc::/64")
        return None
