"""The older agent's patterns of destinations: regular expressions, matched from the start of an EID's text.

Those that mean "all that begins so" or "just this" become EID patterns. A dot that is not escaped is a dot here: nobody
who writes `ipn:5.3$` means any character.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tumpline.errors import ConfigError, MalformedError
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

_SPECIAL = frozenset("[](){}*+?^$|\\")
_ANY_TAIL = re.compile(r"\.[*+]\??\$?$")
_IPN_NODE = re.compile(r"ipn:([0-9]+\.)?[0-9]+\.")


class Plain(NamedTuple):
    """EIDs whose text begins with `text`, or is it."""

    text: str
    exact: bool

    def covers(self, other: Plain) -> bool:
        """Whether each EID of `other` is one of these."""
        return self == other if self.exact else other.text.startswith(self.text)


def plain_of(regex: str) -> list[Plain]:
    """Its alternatives. Raises: ConfigError: it means more than beginnings."""
    return [_alternative(part, regex) for part in re.split(r"(?<!\\)\|", regex)]


def pattern_of(plain: Plain) -> str:
    """The same as an EID pattern. Raises: ConfigError saying what to write."""
    text = plain.text
    if not plain.exact:
        text = _beginning(text)
    elif re.fullmatch(r"ipn:[0-9]+\.[0-9]+", text):
        text = f"ipn:0.{text[4:]}"
    try:
        return str(EidPattern.parse(text))
    except MalformedError as error:
        raise ConfigError(f"{error}, as regular expressions: dtn://node/.*, ipn:5\\..* or .*") from error


def node_of(plain: Plain) -> str | None:
    """The node ID of which this is everything, if it is."""
    if plain.exact:
        return None
    try:
        eid = Eid.parse(f"{plain.text.removesuffix('.')}.0" if plain.text.startswith("ipn:") else plain.text)
    except MalformedError:
        return None
    return str(eid) if eid.is_administrative else None


def _alternative(part: str, whole: str) -> Plain:
    body = part.removeprefix("^")
    tail = _ANY_TAIL.search(body)
    exact = tail is None and body.endswith("$") and not body.endswith("\\$")
    body = body[: tail.start()] if tail is not None else body.removesuffix("$") if exact else body
    text, escaped = "", False
    for character in body:
        if escaped and character.isalnum():
            raise _too_much(whole)
        if not escaped and character == "\\":
            escaped = True
            continue
        if not escaped and character in _SPECIAL:
            raise _too_much(whole)
        text, escaped = text + character, False
    if escaped:
        raise _too_much(whole)
    return Plain(text, exact)


def _too_much(regex: str) -> ConfigError:
    return ConfigError(
        f"{regex!r} means more than a beginning; write beginnings of EIDs, such as dtn://node/.* or ipn:5\\..*, one a route"
    )


def _beginning(text: str) -> str:
    if not text:
        return "*:**"
    for scheme in ("dtn", "ipn"):
        if f"{scheme}://".startswith(text) and text.startswith(f"{scheme}:"):
            return f"{scheme}:**"
    if _IPN_NODE.fullmatch(text):
        return f"{text}*" if text.count(".") == 2 else f"ipn:0.{text[4:]}*"
    if text.startswith("dtn://") and text.count("/") >= 3:
        return f"{text}**"
    raise ConfigError(
        f"{text!r} matches all that begins so, numbers and names that only begin alike too; "
        "write for example dtn://node/.*, ipn:5\\..* or, of a single endpoint, ipn:5\\.3$"
    )
