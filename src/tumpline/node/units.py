"""Quantities as people write them: sizes, rates, durations, times. Every error says what to write instead."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tumpline.errors import ConfigError
from tumpline.machines.quantities import (
    LARGEST,
    format_duration,
    format_rate,
    format_size,
    parse_duration_ms,
    parse_rate,
    parse_size,
)

__all__ = [
    "DTN_EPOCH_UNIX_MS",
    "LARGEST",
    "dtn_ms",
    "format_duration",
    "format_rate",
    "format_size",
    "format_time",
    "parse_duration_ms",
    "parse_rate",
    "parse_size",
    "parse_time_ms",
]

DTN_EPOCH_UNIX_MS: Final = 946_684_800_000  # 2000-01-01T00:00:00Z (RFC 9171 §4.2.6)


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
