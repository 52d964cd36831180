"""Match rules of D-Bus: which messages a connection wants (D-Bus specification, "Match Rules")."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any, Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire.dbus.message import Kind, Message
from tumpline.wire.dbus.names import is_bus_name, is_interface, is_member, is_namespace, is_object_path
from tumpline.wire.dbus.signature import parse_signature

RULE_OCTETS_MOST: Final = 1024  # what the reference implementation takes
ARGUMENTS_MOST: Final = 64  # Match Rules: "Only argument indexes from 0 to 63 should be accepted"

Arguments = tuple[tuple[str, Any], ...]  # the first arguments of a body: code of the type, value


class MatchRule(NamedTuple):
    """One rule; what is empty (or 0) is not asked about. `arguments` holds index, `""`, `path` or `namespace`, value."""

    kind: int = 0
    sender: str = ""
    interface: str = ""
    member: str = ""
    path: str = ""
    path_namespace: str = ""
    destination: str = ""
    arguments: tuple[tuple[int, str, str], ...] = ()
    eavesdrop: bool = False

    def matches(
        self,
        message: Message,
        arguments: Arguments,
        sender_names: Container[str],
        destination_names: Container[str] = (),
    ) -> bool:
        """Whether a message is wanted. The names are all that its sender and its receiver own, unique ones among them."""
        return (
            (not self.kind or self.kind == message.kind)
            and (not self.interface or self.interface == message.interface)
            and (not self.member or self.member == message.member)
            and (not self.path or self.path == message.path)
            and (not self.path_namespace or _path_within(message.path, self.path_namespace))
            and (not self.sender or self.sender in sender_names)
            and (not self.destination or self.destination in destination_names)
            and all(_ARGUMENT_TESTS[how](arguments, index, value) for index, how, value in self.arguments)
        )


def arguments_of(message: Message) -> Arguments:
    """The first arguments of a message, for `MatchRule.matches`. Raises: MalformedError."""
    values = message.body_values()
    codes = [kind.code for kind in parse_signature(message.signature)[:ARGUMENTS_MOST]]
    return tuple(zip(codes, values, strict=False))


def parse_match_untrusted(text: str) -> MatchRule:
    """The rule that a text such as `type='signal',arg0='x'` is. Raises: MalformedError."""
    if len(text) > RULE_OCTETS_MOST:
        raise MalformedError(f"match rule of {len(text)} octets, at most {RULE_OCTETS_MOST} are taken")
    named: dict[str, Any] = {}
    asked: dict[tuple[int, str], str] = {}
    for key, value in _pairs(text):
        if key.startswith("arg"):
            _put(asked, _argument_key(key, value), value, text)
        elif key in _CHECKS and _CHECKS[key](value):
            _put(named, key, value, text)
        else:
            raise MalformedError(f"match rule {text!r}: {key!r} is no key, or {value!r} not what it can be")
    if "path" in named and "path_namespace" in named:
        raise MalformedError(f"match rule {text!r}: path and path_namespace are not allowed together")
    kind = _KINDS[named.pop("type")] if "type" in named else 0
    eavesdrop = named.pop("eavesdrop", "false") == "true"
    arguments = tuple((index, how, value) for (index, how), value in sorted(asked.items()))
    return MatchRule(kind, **named, arguments=arguments, eavesdrop=eavesdrop)


def encode_match(rule: MatchRule) -> str:
    """The text of a rule, as AddMatch wants it."""
    named: dict[str, str] = {key: getattr(rule, key) for key in _TEXT_KEYS}
    named["type"] = next((word for word, kind in _KINDS.items() if kind == rule.kind), "")
    named["eavesdrop"] = "true" if rule.eavesdrop else ""
    pairs = [(key, value) for key, value in named.items() if value]
    pairs += [(f"arg{index}{how}", value) for index, how, value in rule.arguments]
    # Match Rules: an apostrophe stands outside of the quotes, behind a backslash.
    return ",".join(f"{key}='" + value.replace("'", "'\\''") + "'" for key, value in pairs)


def _put(into: dict[Any, str], key: Any, value: str, text: str) -> None:
    if key in into:
        raise MalformedError(f"match rule {text!r}: {key} is there twice")
    into[key] = value


def _pairs(text: str) -> list[tuple[str, str]]:
    """Keys and unquoted values."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        key = _KEY.match(text, at)
        if key is None:
            raise MalformedError(f"match rule {text!r}: no key and `=` at {at}")
        value, at = _unquoted(text, key.end())
        found.append((key[1], value))
    return found


def _unquoted(text: str, at: int) -> tuple[str, int]:
    """The value that begins at `at`, and where the next key begins.

    Match Rules: as in a shell between apostrophes a backslash is itself, outside of them `\\'` is an apostrophe.
    """
    value = ""
    quoted = False
    while at < len(text) and (quoted or text[at] != ","):
        if text[at] == "'":
            quoted = not quoted
        elif not quoted and text.startswith("\\'", at):
            value += "'"
            at += 1
        else:
            value += text[at]
        at += 1
    if quoted:
        raise MalformedError(f"match rule {text!r}: an apostrophe is not closed")
    return value, at + 1


def _argument_key(key: str, value: str) -> tuple[int, str]:
    found = _ARGUMENT_KEY.fullmatch(key)
    index, how = (int(found[1]), found[2]) if found else (ARGUMENTS_MOST, "")
    # Match Rules: there is an arg0namespace, and for no other argument.
    if index >= ARGUMENTS_MOST or (how == "namespace" and (index or not is_namespace(value))):
        raise MalformedError(f"match rule: {key!r} is no key, or {value!r} not what it can be")
    return index, how


def _path_within(path: str, namespace: str) -> bool:
    return namespace == "/" or path == namespace or path.startswith(namespace + "/")


def _is_text(arguments: Arguments, index: int, value: str) -> bool:
    return index < len(arguments) and arguments[index] == ("s", value)


def _is_path(arguments: Arguments, index: int, value: str) -> bool:
    if index >= len(arguments) or arguments[index][0] not in "so":
        return False
    path = arguments[index][1]
    # Match Rules: equal, or one of them ends with a slash and is the beginning of the other.
    within = value.endswith("/") and path.startswith(value)
    return path == value or within or (path.endswith("/") and value.startswith(path))


def _is_within(arguments: Arguments, index: int, value: str) -> bool:
    if index >= len(arguments) or arguments[index][0] != "s":
        return False
    name = arguments[index][1]
    return bool(name == value or name.startswith(value + "."))


_ARGUMENT_TESTS: Final = {"": _is_text, "path": _is_path, "namespace": _is_within}
_KINDS: Final = {"method_call": Kind.CALL, "method_return": Kind.RETURN, "error": Kind.ERROR, "signal": Kind.SIGNAL}
_KEY: Final = re.compile(r"[ \t\r\n]*([a-z0-9_]+)[ \t]*=")
_TEXT_KEYS: Final = ("sender", "interface", "member", "path", "path_namespace", "destination")
_ARGUMENT_KEY: Final = re.compile(r"arg(\d{1,2})(path|namespace|)", re.ASCII)
_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "type": _KINDS.__contains__,
    "sender": is_bus_name,
    "interface": is_interface,
    "member": is_member,
    "path": is_object_path,
    "path_namespace": is_object_path,
    "destination": is_bus_name,
    "eavesdrop": ("true", "false").__contains__,
}
