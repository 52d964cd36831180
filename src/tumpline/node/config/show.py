"""A configuration as it takes effect, in TOML: defaults filled in, secrets left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tumpline.node.config.checker import unit_of
from tumpline.node.units import format_duration, format_rate, format_size

if TYPE_CHECKING:
    from tumpline.machines.plan import Route
    from tumpline.node.config.contact import Planned
    from tumpline.node.config.value import Configuration

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


def effective(configuration: Configuration) -> dict[str, Any]:
    """The configuration as it takes effect, as plain data."""
    links = [{"kind": link.spec.scheme, "name": link.name, **shown(link.config)} for link in configuration.links]
    data = {
        "node": {**shown(configuration.node), "name": configuration.name, "state_dir": str(configuration.state_dir)},
        "store": {**shown(configuration.store.section), **shown(configuration.store.config)},
        "routing": {"kind": configuration.routing.spec.scheme, **shown(configuration.routing.config)},
        "links": links,
        "peers": [shown(peer._asdict()) for peer in configuration.peers],
        "routes": [_route(route) for route in configuration.routes],
        "contacts": [_contact(each) for each in configuration.contacts],
        "services": {service.spec.name: shown(service.config) for service in configuration.services},
        "control": shown(configuration.control),
        "log": shown(configuration.log),
    }
    return {key: value for key, value in data.items() if value or key in configuration.raw}


def show(configuration: Configuration) -> str:
    """The configuration as it takes effect, as TOML that `load` reads to the same effect."""
    return toml_text(effective(configuration))


def _route(route: Route) -> dict[str, Any]:
    return {"to": str(route.pattern), "via": str(route.via), "priority": route.priority, "name": route.name}


def _contact(each: Planned) -> dict[str, Any]:
    contact = each.contact
    said = {
        "peer": str(contact.peer),
        "start": each.start or None,
        "duration": None if contact.duration_ms is None else format_duration(contact.duration_ms),
        "rate": None if contact.rate_bps is None else format_rate(contact.rate_bps),
        "link": contact.link,
    }
    return {key: value for key, value in said.items() if value is not None}


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
