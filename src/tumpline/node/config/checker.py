"""From what a file says to the Struct that a part wants, finding every mistake on the way.

`msgspec.convert` stops at the first mistake. This walks the type of a Struct instead, and knows what the project's names
say (ARCHITECTURE.md §5.8): a number whose name has the word `s`, `ms`, `bytes`, `octets` or `bps` in it may be written
with a unit, and a text named `cert` or `directory` is a path, relative to the file it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec.inspect as mi

from tumpline.errors import ConfigError, TumplineError
from tumpline.node.config.problems import Path, Problems
from tumpline.node.registry import did_you_mean
from tumpline.node.units import parse_duration_ms, parse_rate, parse_size
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

# Words of a field's name that give its unit, and what reads a text in it.
UNITS: Final[dict[str, Callable[[str], float]]] = {
    "s": lambda text: parse_duration_ms(text) / 1000,
    "ms": parse_duration_ms,
    "bytes": parse_size,
    "octets": parse_size,
    "mru": parse_size,
    "bps": parse_rate,
}
# Texts of these names are paths of the file system.
FILES: Final = frozenset(
    {"ca", "cert", "key", "identity", "key_log", "directory", "socket", "file", "token_file", "state_dir"}
)


class Bad:
    """The result of a value that was a mistake (it has been told)."""


BAD: Final = Bad()


def unit_of(name: str) -> str | None:
    """The unit that a field's name gives: `retry_s_max` is in seconds."""
    words = name.split("_")
    # `per_s` is a rate, and no duration.
    return next(
        (word for before, word in zip(["", *words], words, strict=False) if word in UNITS and before != "per"), None
    )


class Checker:
    """Checks values of one file. `base`: the directory that relative paths start from."""

    def __init__(self, problems: Problems, base: FilePath, complete: bool = True, assign: str = " = ") -> None:
        self.problems = problems
        self._assign = assign  # between a key and its value, as the file's format has it
        self._base = base
        self.complete = complete  # False: lines were left out, so that nothing can be called missing

    def struct(self, value: Any, cls: type[Any], path: Path, also: Iterable[str] = ()) -> Any:
        """An instance of `cls`, or BAD. `also`: keys that the table may have besides (for "did you mean")."""
        if not isinstance(value, dict):
            return self._wrong(path, value, "a table")
        info = _struct_info(cls)
        fields = {field.encode_name: field for field in info.fields}
        before = len(self.problems)
        self._unknown(value, fields, path, also)
        arguments: dict[str, Any] = {}
        for name, field in fields.items():
            if name in value:
                arguments[field.name] = self._check(value[name], field.type, (*path, name), field.name)
            elif field.required and self.complete:
                self.problems.add(path, f"{name} is missing; write {name}{self._assign}{_example(field.type, name)}")
        if len(self.problems) > before or any(field.required and name not in value for name, field in fields.items()):
            return BAD
        return self._made(cls, arguments, path)

    def file(self, text: str) -> FilePath:
        """A path as the file means it. Raises: ConfigError."""
        if "\0" in text:
            raise ConfigError("a path has no NUL character; write where the file is")
        return self._base / FilePath(text).expanduser()

    def _made(self, cls: type[Any], arguments: dict[str, Any], path: Path) -> Any:
        try:
            return cls(**arguments)
        except (ValueError, TumplineError) as error:  # what only the class itself can know (__post_init__)
            self.told(path, str(error))
            return BAD

    def told(self, path: Path, text: str) -> None:
        """What a part says about its own section. `key: ...` at its start belongs to that key; parts are joined by "; key: "."""
        for sentence in re.split(r"; (?=[a-z_.]+: )", text):
            key, colon, rest = sentence.partition(": ")
            if colon and re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", key):
                self.problems.add((*path, *key.split(".")), rest)
            else:
                self.problems.add(path, sentence)

    def _unknown(self, value: dict[str, Any], fields: Mapping[str, Any], path: Path, also: Iterable[str]) -> None:
        for key in value:
            if key not in fields:
                known = [*fields, *also]
                meant = did_you_mean(key, known) if known else "remove it: there is nothing to configure here"
                self.problems.add((*path, key), f"there is no such key; {meant}")

    # ---- values ---------------------------------------------------------------------------------------------------

    def _check(self, value: Any, kind: mi.Type, path: Path, name: str) -> Any:
        if isinstance(kind, mi.Metadata):
            made = self._check(value, kind.type, path, name)
            return self._meant(made, kind.extra or {}, path)
        if isinstance(kind, mi.UnionType):
            if value is None and any(isinstance(member, mi.NoneType) for member in kind.types):
                return None  # YAML and JSON can say so
            return self._check(value, _member(kind, value), path, name)
        if isinstance(kind, mi.StructType):
            return self.struct(value, kind.cls, path)
        if isinstance(kind, mi.DictType):
            return self._dict(value, kind, path)
        if isinstance(kind, mi.ListType | mi.VarTupleType | mi.FrozenSetType | mi.SetType):
            return self._list(value, kind, path, name)
        return self._scalar(value, kind, path, name)

    def _meant(self, made: Any, extra: Mapping[str, Any], path: Path) -> Any:
        """Apply `Meta(extra={"check": function})`: it raises a TumplineError for what its type does not exclude."""
        if isinstance(made, Bad) or "check" not in extra:
            return made
        try:
            extra["check"](made)
        except TumplineError as error:
            self.problems.add(path, str(error))
            return BAD
        return made

    def _dict(self, value: Any, kind: mi.DictType, path: Path) -> Any:
        if not isinstance(value, dict):
            return self._wrong(path, value, "a table")
        return {key: self._check(item, kind.value_type, (*path, key), key) for key, item in value.items()}

    def _list(
        self, value: Any, kind: mi.ListType | mi.VarTupleType | mi.FrozenSetType | mi.SetType, path: Path, name: str
    ) -> Any:
        if not isinstance(value, list):
            return self._wrong(path, value, f"a list; write [ {_example(kind.item_type, name)} ]")
        items = [self._check(item, kind.item_type, (*path, index), name) for index, item in enumerate(value)]
        makers = {mi.VarTupleType: tuple, mi.FrozenSetType: frozenset, mi.SetType: set}
        return BAD if BAD in items else makers.get(type(kind), list)(items)

    def _scalar(self, value: Any, kind: mi.Type, path: Path, name: str) -> Any:
        if isinstance(kind, mi.IntType | mi.FloatType):
            return self._number(value, kind, path, name)
        if isinstance(kind, mi.LiteralType):
            return self._choice(value, {str(item): item for item in kind.values}, path)
        if isinstance(kind, mi.EnumType):
            return self._choice(value, {str(item.value): item for item in kind.cls}, path)
        if isinstance(kind, mi.CustomType):
            return self._custom(value, kind.cls, path)
        if isinstance(kind, mi.BoolType):
            return value if isinstance(value, bool) else self._wrong(path, value, "true or false")
        if isinstance(kind, mi.StrType):
            return self._text(value, kind, path, name)
        return value

    def _text(self, value: Any, kind: mi.StrType, path: Path, name: str) -> Any:
        if isinstance(value, datetime) and name == "start":
            return value.isoformat()  # TOML has a notation of its own for times
        if not isinstance(value, str):
            return self._wrong(path, value, f"text; write {_example_text(name)}")
        if kind.pattern is not None and not re.search(kind.pattern, value):
            self.problems.add(path, f"{value!r} is not allowed; write text that matches {kind.pattern}")
            return BAD
        if not value or name not in FILES:
            return value
        made = self._custom(value, FilePath, path)
        return made if isinstance(made, Bad) else str(made)

    def _number(self, value: Any, kind: mi.IntType | mi.FloatType, path: Path, name: str) -> Any:
        unit = unit_of(name)
        if isinstance(value, str) and unit is not None:
            try:
                value = UNITS[unit](value)
            except TumplineError as error:
                self.problems.add(path, str(error))
                return BAD
        whole = isinstance(kind, mi.IntType)
        if isinstance(value, float) and whole and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            what = "a whole number" if whole else "a number"
            return self._wrong(path, value, f"{what}; write {_example(kind, name)}")
        if (bound := _outside(value, kind)) is not None:
            self.problems.add(path, f"{value} is out of range; write a number {bound}")
            return BAD
        return value if whole else float(value)

    def _choice(self, value: Any, choices: dict[str, Any], path: Path) -> Any:
        if isinstance(value, str | int) and str(value) in choices:
            return choices[str(value)]
        shown = f"{value!r}" if isinstance(value, str) else _what(value)
        self.problems.add(path, f"{shown} is none of the choices; {did_you_mean(str(value), filter(None, choices))}")
        return BAD

    def _custom(self, value: Any, cls: type[Any], path: Path) -> Any:
        if not isinstance(value, str):
            return self._wrong(path, value, "text in quotes")
        try:
            if cls is FilePath:
                return self.file(value)
            return {Eid: Eid.parse, EidPattern: EidPattern.parse}[cls](value)
        except TumplineError as error:
            self.problems.add(path, str(error))
            return BAD

    def _wrong(self, path: Path, value: Any, wanted: str) -> Bad:
        self.problems.add(path, f"this is {_what(value)}, and must be {wanted}")
        return BAD


def _struct_info(cls: type[Any]) -> mi.StructType:
    info = mi.type_info(cls)
    assert isinstance(info, mi.StructType), f"{cls} is no msgspec.Struct"
    return info


def _member(union: mi.UnionType, value: Any) -> mi.Type:
    """The member of a union that the value may be meant for."""
    members = [member for member in union.types if not isinstance(member, mi.NoneType)]
    wanted: dict[type[Any], tuple[type[Any], ...]] = {
        list: (mi.ListType, mi.VarTupleType, mi.FrozenSetType, mi.SetType),
        dict: (mi.StructType, mi.DictType),
        bool: (mi.BoolType,),
        int: (mi.IntType, mi.FloatType),
        float: (mi.FloatType,),
        str: (mi.StrType, mi.LiteralType, mi.EnumType, mi.CustomType, mi.IntType, mi.FloatType),
    }
    for kind in wanted.get(type(value), ()):
        for member in members:
            if isinstance(member.type if isinstance(member, mi.Metadata) else member, kind):
                return member
    return members[0]


def _outside(value: float, kind: mi.IntType | mi.FloatType) -> str | None:
    """In words what the number breaks, or None."""
    if kind.ge is not None and value < kind.ge:
        return f"from {kind.ge}" + (f" to {kind.le}" if kind.le is not None else " upwards")
    if kind.gt is not None and value <= kind.gt:
        return f"above {kind.gt}"
    if kind.le is not None and value > kind.le:
        return (f"from {kind.ge} to {kind.le}") if kind.ge is not None else f"up to {kind.le}"
    if kind.lt is not None and value >= kind.lt:
        return f"below {kind.lt}"
    return None


def _what(value: Any) -> str:
    names: dict[type[Any], str] = {dict: "a table", list: "a list", str: f"the text {value!r}"}
    shown = str(value).lower() if isinstance(value, bool) else value
    return names.get(type(value), f"the value {shown}")


def _example(kind: mi.Type, name: str) -> str:
    if isinstance(kind, mi.Metadata):
        return _example(kind.type, name)
    if isinstance(kind, mi.UnionType):
        return _example(_member(kind, None), name)
    if isinstance(kind, mi.CustomType):
        return {Eid: '"dtn://node/"', EidPattern: '"dtn://node/**"'}.get(kind.cls, '"..."')
    if isinstance(kind, mi.LiteralType):
        return " or ".join(f'"{item}"' for item in kind.values if item)
    if isinstance(kind, mi.IntType | mi.FloatType):
        numbers = {"s": '30 or "30s"', "ms": '500 or "500ms"', "bps": '"128 kbit/s"'}
        unit = unit_of(name)
        return numbers.get(unit, '1048576 or "1 MiB"') if unit else "a number without quotes"
    return {mi.BoolType: "true or false", mi.ListType: "[...]"}.get(type(kind), _example_text(name))


def _example_text(name: str) -> str:
    return {"address": '"host:port"', "listen": '"[::]:4556"', "link": '"tcpcl4"'}.get(name, '"..." in quotes')
