"""The JSON Schema of configuration files, for editors: made from the same classes that check them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import msgspec.inspect as mi

from tumpline.node.config.checker import unit_of
from tumpline.node.config.contact import ContactSection
from tumpline.node.config.documentation import field_docs
from tumpline.node.config.model import (
    BusSection,
    ControlSection,
    LinkSection,
    LogSection,
    NodeSection,
    PeerSection,
    RouteSection,
    RoutingSection,
    StoreSection,
)
from tumpline.node.config.write import shown
from tumpline.node.registry import Registry, Room, load_registry

Schema = dict[str, Any]


def schema(registry: Registry | None = None) -> Schema:
    """The schema of a whole file."""
    parts = registry or load_registry()
    services = {name: _struct(spec.config, summary=spec.summary) for name, spec in parts.services.parts.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of a tumpline agent",
        **_table(
            {
                "node": _struct(NodeSection),
                "store": _by_kind(StoreSection, parts.stores),
                "routing": _by_kind(RoutingSection, parts.routing),
                "links": _list(_by_kind(LinkSection, parts.links)),
                "peers": _list(_struct(PeerSection)),
                "routes": _list(_struct(RouteSection)),
                "contacts": _list(_struct(ContactSection)),
                "services": _table(services),
                "control": _struct(ControlSection),
                "bus": _struct(BusSection),
                "log": _struct(LogSection),
            },
            required=["node"],
        ),
    }


def _by_kind(section: type[Any], room: Room[Any]) -> Schema:
    """One of the kinds, each with its own keys beside the common ones."""
    default = _default_kind(section)
    choices = []
    for name, spec in room.parts.items():
        common, own = _struct(section), _struct(spec.config, summary=spec.summary)
        kind = {**common["properties"]["kind"], "const": name}
        # Left out, `kind` means the default: the other kinds have to say theirs.
        required = common.get("required", []) + own.get("required", []) + ([] if name == default else ["kind"])
        choices.append(
            _table(
                {**common["properties"], **own["properties"], "kind": kind}, sorted(set(required)), own["description"]
            )
        )
    return {"oneOf": choices}


def _default_kind(section: type[Any]) -> str | None:
    field = next(field for field in msgspec.structs.fields(section) if field.name == "kind")
    return None if field.required else field.default


def _struct(cls: type[Any], summary: str = "") -> Schema:
    info = mi.type_info(cls)
    assert isinstance(info, mi.StructType)
    docs = field_docs(cls)
    properties = {}
    for field in info.fields:
        properties[field.encode_name] = _type(field.type, field.encode_name)
        if field.name in docs:
            properties[field.encode_name]["description"] = docs[field.name]
        if not field.required and (default := _default(field)) is not None:
            properties[field.encode_name]["default"] = default
    required = [field.encode_name for field in info.fields if field.required]
    return _table(properties, required, summary or inspect_doc(cls))


def inspect_doc(cls: type[Any]) -> str:
    """The first paragraph of a class's docstring."""
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def _default(field: mi.Field) -> Any:
    value = field.default if field.default is not msgspec.NODEFAULT else None
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    return shown(value, field.name) if value is not None else None


def _type(kind: mi.Type, name: str) -> Schema:
    if isinstance(kind, mi.Metadata):
        return _type(kind.type, name)
    if isinstance(kind, mi.UnionType):
        members = [_type(member, name) for member in kind.types if not isinstance(member, mi.NoneType)]
        return members[0] if len(members) == 1 else {"anyOf": members}
    if isinstance(kind, mi.StructType):
        return _struct(kind.cls)
    if isinstance(kind, mi.ListType | mi.VarTupleType | mi.SetType | mi.FrozenSetType):
        return _list(_type(kind.item_type, name))
    if isinstance(kind, mi.DictType):
        return {"type": "object", "additionalProperties": _type(kind.value_type, name)}
    if isinstance(kind, mi.IntType | mi.FloatType):
        return _number(kind, name)
    if isinstance(kind, mi.LiteralType):
        return {"enum": [value for value in kind.values if value != ""]}
    if isinstance(kind, mi.EnumType):
        return {"enum": [member.value for member in kind.cls]}
    if isinstance(kind, mi.StrType):
        return {"type": "string"} | ({"pattern": kind.pattern} if kind.pattern else {})
    return {"type": "boolean"} if isinstance(kind, mi.BoolType) else {"type": "string"}


def _number(kind: mi.IntType | mi.FloatType, name: str) -> Schema:
    bounds = {"minimum": kind.ge, "exclusiveMinimum": kind.gt, "maximum": kind.le, "exclusiveMaximum": kind.lt}
    number: Schema = {"type": "integer" if isinstance(kind, mi.IntType) else "number"}
    number |= {key: bound for key, bound in bounds.items() if bound is not None}
    return {"anyOf": [number, {"type": "string"}]} if unit_of(name) else number


def _table(properties: dict[str, Schema], required: Iterable[str] = (), description: str = "") -> Schema:
    table: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if needed := list(required):
        table["required"] = needed
    return table | ({"description": description} if description else {})


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}
