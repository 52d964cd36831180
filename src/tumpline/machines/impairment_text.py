"""An `Impairment` as people and programs write it: `{delay: 20 ms, loss: 1 %, rate: 10 Mbit/s, queue: 100 kB}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from tumpline.errors import ConfigError
from tumpline.machines.impairment import Impairment, Jitter
from tumpline.machines.quantities import LARGEST, parse_duration_s, parse_rate, parse_size


def parse_impairment(mapping: object) -> Impairment:
    """Read a mapping of YAML or JSON; each quantity with its unit, or as a number under the name that says the unit.

    Raises: ConfigError with every mistake in it, each as `key: what is wrong; what to write`.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"impair: {mapping!r} is no table; write for example {{delay: 20 ms, loss: 1 %}}")
    fields: dict[str, Any] = {}
    problems = []
    for key, value in mapping.items():
        try:
            name, read = _reader(key)
            if name in fields:
                raise ConfigError("is there twice, with and without its unit; write one of them")
            fields[name] = read(value)
        except ConfigError as error:
            problems += [f"{key}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return Impairment(**fields)


def impairment_mapping(impairment: Impairment) -> dict[str, float | str | None]:
    """All of it as plain numbers; `parse_impairment` reads it back exactly."""
    return {
        "delay_s": impairment.delay_s,
        "jitter_s": impairment.jitter_s,
        "jitter_kind": impairment.jitter.value,
        "loss": impairment.loss,
        "duplicate": impairment.duplicate,
        "reorder": impairment.reorder,
        "corrupt": impairment.corrupt,
        "rate_bps": impairment.rate_bps,
        "queue_octets": impairment.queue_octets,
    }


Reader = Callable[[object], Any]


def _reader(key: object) -> tuple[str, Reader]:
    """Which field a key means, and how its value is read."""
    if key in _READERS:
        return _READERS[str(key)]
    near = get_close_matches(str(key), _READERS, 1)
    raise ConfigError(f"is unknown; {f'did you mean {near[0]}?' if near else 'write ' + ', '.join(_PLAIN)}")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ConfigError(f"{value!r} is no number; write for example 20")
    return value


def _milliseconds(value: object) -> float:
    return _number(value) / 1000


def _whole(value: object) -> int:
    number = _number(value)
    if number != int(number):
        raise ConfigError(f"{value!r} is no whole number; write for example 100000")
    return int(number)


def _duration(value: object) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    return parse_duration_s(value if isinstance(value, str) else f"{value}")


def _rate(value: object) -> float | None:
    if value is None:
        return None  # no limit
    return parse_rate(value) if isinstance(value, str) else _number(value)


def _size(value: object) -> int:
    return parse_size(value) if isinstance(value, str) else _whole(value)


def _share(value: object) -> float:
    """0.01, "0.01" or "1 %"."""
    if not isinstance(value, str):
        return _number(value)
    text = value.strip()
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ConfigError(f"{value!r} is no share; write for example 1 % or 0.01") from None


def _jitter_kind(value: object) -> Jitter:
    try:
        return Jitter(str(value))
    except ValueError:
        raise ConfigError(f"{value!r} is no kind of jitter; write {' or '.join(Jitter)}") from None


_PLAIN: dict[str, tuple[str, Reader]] = {
    "delay": ("delay_s", _duration),
    "jitter": ("jitter_s", _duration),
    "jitter_kind": ("jitter", _jitter_kind),
    "loss": ("loss", _share),
    "duplicate": ("duplicate", _share),
    "reorder": ("reorder", _share),
    "corrupt": ("corrupt", _share),
    "rate": ("rate_bps", _rate),
    "queue": ("queue_octets", _size),
}
_READERS: dict[str, tuple[str, Reader]] = _PLAIN | {
    "delay_ms": ("delay_s", _milliseconds),
    "delay_s": ("delay_s", _number),
    "jitter_ms": ("jitter_s", _milliseconds),
    "jitter_s": ("jitter_s", _number),
    "rate_bps": ("rate_bps", _rate),
    "queue_octets": ("queue_octets", _whole),
}
