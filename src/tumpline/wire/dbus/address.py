"""Addresses of D-Bus servers, as `unix:path=/run/bus,guid=...` (D-Bus specification, "Server Addresses")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from tumpline.errors import MalformedError

# Server Addresses: what needs no escape; everything else is written as %XX.
_PLAIN: Final = frozenset(b"-_/\\*.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_ESCAPE: Final = re.compile(rb"%([0-9a-fA-F]{2})")
ADDRESSES_MOST: Final = 16  # tried one after another; nobody has more than a few


class ServerAddress(NamedTuple):
    """One way to reach a bus: how (`unix`, `tcp`, ...), and its keys, unescaped."""

    transport: str
    keys: Mapping[str, str]


def parse_addresses(text: str) -> list[ServerAddress]:
    """The ways that a text lists, the first one first. Raises: MalformedError."""
    found = [_parse_one(part) for part in text.split(";") if part]
    if not 0 < len(found) <= ADDRESSES_MOST:
        raise MalformedError(f"D-Bus address {text[:100]!r} names no way to a bus, or more than {ADDRESSES_MOST}")
    return found


def _parse_one(text: str) -> ServerAddress:
    transport, colon, rest = text.partition(":")
    if not transport or not colon:
        raise MalformedError(f"D-Bus address {text[:100]!r} has no transport; write unix:path=/path/of/the/socket")
    keys: dict[str, str] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not key or not equals or key in keys:
            raise MalformedError(f"D-Bus address {text[:100]!r}: {pair[:50]!r} is no KEY=VALUE, or there twice")
        keys[key] = _unescaped(value)
    return ServerAddress(transport, keys)


def _unescaped(text: str) -> str:
    raw = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text.encode())
    if b"\0" in raw:
        raise MalformedError(f"D-Bus address: {text[:50]!r} has a NUL")
    return raw.decode("utf-8", "surrogateescape")


def encode_address(address: ServerAddress) -> str:
    """The text of one way."""
    pairs = ",".join(f"{key}={_escaped(value)}" for key, value in address.keys.items())
    return f"{address.transport}:{pairs}"


def _escaped(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(chr(octet) if octet in _PLAIN else f"%{octet:02x}" for octet in raw)
