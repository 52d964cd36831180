"""Quantities as people write them: sizes, rates, durations, times. Every error says what to write instead."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from tumpline.errors import ConfigError

DTN_EPOCH_UNIX_MS: Final = 946_684_800_000  # 2000-01-01T00:00:00Z (RFC 9171 §4.2.6)
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
    total, end = Decimal(0), 0
    while end < len(text) and (match := _DURATION_PART.match(text, end)) is not None:
        factor = _DURATIONS_MS.get(match[2])
        if factor is None:
            break
        total += Decimal(match[1]) * factor
        end = match.end()
    if not text.strip() or end != len(text):
        raise ConfigError(f"{text!r} is no duration; write for example 500ms, 30s, 10m, 1h30m or 2d")
    if total > LARGEST:
        raise ConfigError(f"{text[:80]!r} is too long; write at most {LARGEST} ms")
    return round(total)


def parse_time_ms(text: str) -> int:
    """DTN time in milliseconds of an RFC 3339 date and time. Raises: ConfigError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or len(text) < len("2000-01-01T00:00"):
        raise ConfigError(f"{text!r} is no time; write it as RFC 3339 has it, for example 2030-01-31T12:00:00Z")
    return dtn_ms(moment)


def dtn_ms(moment: datetime) -> int:
    """DTN time in milliseconds. Raises: ConfigError (no offset from UTC, before 2000)."""
    if moment.tzinfo is None:
        raise ConfigError(f"{moment.isoformat()} has no time zone; write {moment.isoformat()}Z if it is UTC")
    value = round(moment.timestamp() * 1000) - DTN_EPOCH_UNIX_MS
    if value < 0:
        raise ConfigError(f"{moment.isoformat()} is before 2000, where DTN time begins; write a later time")
    return value


def format_time(time_ms: int) -> str:
    """DTN time as RFC 3339, in UTC."""
    return datetime.fromtimestamp((time_ms + DTN_EPOCH_UNIX_MS) / 1000, UTC).isoformat().replace("+00:00", "Z")


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
