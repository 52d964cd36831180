"""Which addresses an agent has, from what its user wrote, as the older agent's users are used to it."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Final, NamedTuple

from tumpline.errors import ConfigError

DEFAULT_PREFIX: Final = "bbbb"
IPV6_BITS: Final = 64
IPV4_BITS: Final = 24
# Agents of these names have addresses of old: agent_1 to agent_6.
_KNOWN: Final = {f"agent_{number}": (f"{number}", f"10.2.0.{number}") for number in range(1, 7)}


def known_addresses() -> dict[str, tuple[str, ...]]:
    """The addresses of old, by name of the agent; without prefix lengths."""
    return {name: (f"{DEFAULT_PREFIX}::{host}", ipv4) for name, (host, ipv4) in _KNOWN.items()}


class Asked(NamedTuple):
    """What the user wrote; nothing where nothing."""

    addresses: tuple[str, ...] = ()
    ipv6_prefix: str | None = None
    ipv6_host: str | None = None
    ipv4_address: str | None = None


def addresses_of(name: str, asked: Asked) -> list[str]:
    """Addresses with prefix lengths. Nothing asked: those of the name. Raises: ConfigError."""
    found = [_whole(address) for address in asked.addresses]
    known = _KNOWN.get(name)
    if asked.ipv6_prefix or asked.ipv6_host or not (found or asked.ipv4_address):
        host = asked.ipv6_host or (known[0] if known else _host_of(name))
        found.append(ipv6_address(asked.ipv6_prefix or DEFAULT_PREFIX, host))
    if asked.ipv4_address:
        found.append(_whole(asked.ipv4_address))
    elif known and asked == Asked():
        found.append(_whole(known[1]))
    return found


def ipv6_address(prefix: str, host: str) -> str:
    """`bbbb` and `1` (or `:1`, as the older agents' coordinators write it) are bbbb::1/64. Raises: ConfigError."""
    text = f"{prefix.rstrip(':')}::{host.lstrip(':')}"
    try:
        return f"{ipaddress.IPv6Address(text)}/{IPV6_BITS}"
    except ValueError:
        raise ConfigError(
            f"{text} is no IPv6 address; write --ipv6-prefix {DEFAULT_PREFIX} --ipv6-host 1 for {DEFAULT_PREFIX}::1"
        ) from None


def link_local_of(addresses: list[str]) -> str:
    """As older agents have it: fe80:: with the host part of the first IPv6 address; nothing if there is none."""
    for address in map(ipaddress.ip_interface, addresses):
        if address.version == 6:
            host = int(address.ip) & ((1 << IPV6_BITS) - 1)
            return f"{ipaddress.IPv6Address((0xFE80 << 112) | host)}/{IPV6_BITS}"
    return ""


def _whole(address: str) -> str:
    """With the usual prefix length, if none is there."""
    try:
        interface = ipaddress.ip_interface(address)
    except ValueError:
        raise ConfigError(f"{address} is no address; write it as 10.2.0.1/24 or bbbb::1/64") from None
    bits = IPV6_BITS if interface.version == 6 else IPV4_BITS
    return str(interface) if "/" in address else f"{interface.ip}/{bits}"


def _host_of(name: str) -> str:
    """32 bits of the name's hash: two names of a session meet at one address once in a very long time."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{digest[:4]}:{digest[4:8]}"
