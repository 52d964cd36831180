"""Plain data as TOML text: what `config show`, the template and changes by command write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Final

import msgspec

from tumpline.node.config.checker import unit_of
from tumpline.node.units import format_duration, format_rate, format_size

# Words of a key's name that make its value nobody's business. (Files that hold secrets are named, not shown.)
SECRETS: Final = frozenset({"token", "password", "secret", "passphrase", "psk"})
HIDDEN: Final = "(not shown)"

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def shown(value: Any, name: str = "") -> Any:
    """Plain data for TOML, units as text. None is left out of tables."""
    if SECRETS & set(name.split("_")) and not name.endswith("_file") and value:
        return HIDDEN
    if isinstance(value, msgspec.Struct):
        return shown({field: getattr(value, field) for field in value.__struct_fields__})
    if isinstance(value, Mapping):
        return {str(key): shown(item, str(key)) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(item, name) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bool | str | datetime):
        return value
    if isinstance(value, int | float):
        return _with_unit(value, unit_of(name))
    return str(value)


def _with_unit(value: int | float, unit: str | None) -> Any:
    if unit == "s" and value and round(value * 1000) == value * 1000:
        return format_duration(round(value * 1000))
    if isinstance(value, float) or unit is None or unit == "s":
        return value
    text = {"ms": format_duration, "bps": format_rate}.get(unit, format_size)(value)
    return value if text == str(value) else text


def toml_text(data: Mapping[str, Any]) -> str:
    """A whole document."""
    return "\n".join(_tables(data, ()))


def table_text(table: Mapping[str, Any]) -> str:
    """The keys of one table, a line each; tables within it inline."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items())


def _tables(data: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    nested = {key: value for key, value in data.items() if isinstance(value, dict) or _is_tables(value)}
    flat = {key: value for key, value in data.items() if key not in nested}
    if flat or (path and not nested):
        yield (f"[{'.'.join(map(_key, path))}]\n" if path else "") + table_text(flat)
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _tables(value, (*path, key))
        else:
            header = ".".join(map(_key, (*path, key)))
            yield from (f"[[{header}]]\n{table_text(table)}" for table in value)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(item)}' for key, item in value.items())} }}" if value else "{}"
    return repr(value)
