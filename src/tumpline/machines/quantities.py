"""Sizes, rates and durations as people write them. Every error says what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from tumpline.errors import ConfigError

# Larger numbers fit neither a SQLite integer nor a CBOR length that anybody can send.
LARGEST: Final = (1 << 63) - 1

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z/]*)\s*")
_DURATION_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*")

_SIZES: Final = {"": 1, "b": 1, "byte": 1, "bytes": 1, "octets": 1} | {
    prefix.lower() + suffix: base**power
    for power, prefix in enumerate("kMGTP", start=1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}
_RATES: Final = {"": 1, "bit/s": 1, "bps": 1} | {
    prefix.lower() + suffix: 1000**power for power, prefix in enumerate("kMGT", start=1) for suffix in ("bit/s", "bps")
}
_DURATIONS_MS: Final = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_FINE_DURATIONS_MS: Final[Mapping[str, int | Decimal]] = {"us": Decimal("0.001"), **_DURATIONS_MS}


def parse_size(text: str) -> int:
    """Octets: "10 GiB", "500 MB", "4096". Raises: ConfigError."""
    return _quantity(text, _SIZES, "size", "a number of bytes, or for example 500 MB or 10 GiB")


def parse_rate(text: str) -> int:
    """Bits a second: "128 kbit/s", "1 Gbit/s", "9600". Raises: ConfigError."""
    return _quantity(text, _RATES, "rate", "for example 9600 bit/s, 128 kbit/s or 1 Gbit/s")


def _quantity(text: str, units: dict[str, int], what: str, example: str) -> int:
    match = _QUANTITY.fullmatch(text)
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ConfigError(f"{text!r} is no {what}; write {example}")
    value = Decimal(match[1]) * factor  # exact: a float has 53 bits only
    if value > LARGEST:
        raise ConfigError(f"{text[:80]!r} is too large; write at most {LARGEST}")
    return round(value)


def parse_duration_ms(text: str) -> int:
    """Milliseconds: "10m", "1h30m", "500ms", "2 d". Raises: ConfigError."""
    return round(_duration_ms(text, _DURATIONS_MS))


def parse_duration_s(text: str) -> float:
    """Seconds, down to microseconds: "20 ms", "1.3 s", "250us". Raises: ConfigError."""
    return float(_duration_ms(text, _FINE_DURATIONS_MS) / 1000)


def _duration_ms(text: str, units: Mapping[str, int | Decimal]) -> Decimal:
    total, end = Decimal(0), 0
    while end < len(text) and (match := _DURATION_PART.match(text, end)) is not None:
        factor = units.get(match[2])
        if factor is None:
            break
        total += Decimal(match[1]) * factor
        end = match.end()
    if not text.strip() or end != len(text):
        raise ConfigError(f"{text!r} is no duration; write for example 500ms, 30s, 10m, 1h30m or 2d")
    if total > LARGEST:
        raise ConfigError(f"{text[:80]!r} is too long; write at most {LARGEST} ms")
    return total


def format_size(octets: int) -> str:
    """The shortest exact text with a binary unit; `parse_size` reads it back."""
    for unit, shift in (("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if octets and octets % (1 << shift) == 0:
            return f"{octets >> shift} {unit}"
    return str(octets)


def format_duration(duration_ms: int) -> str:
    """Exact; `parse_duration_ms` reads it back."""
    parts, rest = [], duration_ms
    for unit, factor in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, factor)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_rate(rate_bps: int) -> str:
    """Exact; `parse_rate` reads it back."""
    for unit, factor in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 1000)):
        if rate_bps and rate_bps % factor == 0:
            return f"{rate_bps // factor} {unit}"
    return f"{rate_bps} bit/s"
