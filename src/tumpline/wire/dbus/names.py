"""Names of D-Bus: whether a text is one (D-Bus specification, "Valid Names" and "Valid Object Paths")."""

from __future__ import annotations

import re
from typing import Final

NAME_OCTETS_MOST: Final = 255  # D-Bus specification, Valid Names: "maximum name length"

_ELEMENT: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_INTERFACE: Final = re.compile(rf"{_ELEMENT}(?:\.{_ELEMENT})+")
_MEMBER: Final = re.compile(_ELEMENT)
_WELL_KNOWN: Final = re.compile(r"[A-Za-z_-][A-Za-z0-9_-]*(?:\.[A-Za-z_-][A-Za-z0-9_-]*)+")
_UNIQUE: Final = re.compile(r":[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")
_NAMESPACE: Final = re.compile(r"[A-Za-z_-][A-Za-z0-9_-]*(?:\.[A-Za-z_-][A-Za-z0-9_-]*)*")
_PATH: Final = re.compile(r"/|(?:/[A-Za-z0-9_]+)+")


def is_interface(text: str) -> bool:
    """Two elements or more, none beginning with a digit. Error names follow the same rule."""
    return len(text) <= NAME_OCTETS_MOST and _INTERFACE.fullmatch(text) is not None


def is_member(text: str) -> bool:
    """The name of a method or signal: one element."""
    return len(text) <= NAME_OCTETS_MOST and _MEMBER.fullmatch(text) is not None


def is_unique_name(text: str) -> bool:
    """The name a bus gives to a connection, as `:1.7`."""
    return len(text) <= NAME_OCTETS_MOST and _UNIQUE.fullmatch(text) is not None


def is_well_known_name(text: str) -> bool:
    """A name a connection may ask for, as `org.example.Agent`."""
    return len(text) <= NAME_OCTETS_MOST and _WELL_KNOWN.fullmatch(text) is not None


def is_bus_name(text: str) -> bool:
    """A unique or a well-known name."""
    return is_unique_name(text) if text.startswith(":") else is_well_known_name(text)


def is_namespace(text: str) -> bool:
    """What `arg0namespace` of a match rule may be: a bus name, or the first element of one."""
    return len(text) <= NAME_OCTETS_MOST and _NAMESPACE.fullmatch(text) is not None


def is_object_path(text: str) -> bool:
    """`/`, or elements each behind a slash."""
    return _PATH.fullmatch(text) is not None
