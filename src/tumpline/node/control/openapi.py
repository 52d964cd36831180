"""OpenAPI 3.1 from the table of operations: schemas come from the msgspec structs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tumpline import __version__
from tumpline.node.control.operation import Kind, Operation
from tumpline.node.control.values import Problem

_IN_PATH = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_REF = "#/components/schemas/{name}"


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole description."""
    types = [
        kind for row in operations for kind in (row.request, row.response, row.says, *row.hears) if kind is not None
    ]
    shown, components = msgspec.json.schema_components([*types, Problem], ref_template=_REF)
    schemas = iter(shown)
    paths: dict[str, Any] = {}
    for row in operations:
        request = next(schemas)
        response = next(schemas) if row.response is not None else None
        says = [next(schemas)] if row.says is not None else []
        hears = [next(schemas) for _ in row.hears]
        paths.setdefault(_IN_PATH.sub(r"{\1}", row.path), {})[row.method.lower()] = _operation(
            row, request, response, components
        ) | _frames(hears, says)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tumpline control", "version": __version__},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _operation(row: Operation, request: Any, response: Any, components: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "parameters": _parameters(row, _resolved(request, components)),
        "responses": _responses(row, response),
    }
    if row.local:
        described["description"] = "Only over the agent's UNIX socket."
    if row.description:
        described["description"] = row.description.replace("\n", " ")
    if row.body:
        octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        described["requestBody"] = {"required": True, "content": octets}
    elif _takes_json(row):
        described["requestBody"] = {"content": {"application/json": {"schema": request}}}
    return described


def _frames(hears: list[Any], says: list[Any]) -> dict[str, Any]:
    """OpenAPI has no word for the frames of a WebSocket."""
    frames = {name: {"anyOf": schemas} for name, schemas in (("hears", hears), ("says", says)) if schemas}
    return {"x-frames": frames} if frames else {}


def _takes_json(row: Operation) -> bool:
    return row.method == "POST" and not row.body


def _resolved(schema: Any, components: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    resolved: dict[str, Any] = components[name] if name else schema
    return resolved


def _parameters(row: Operation, schema: dict[str, Any]) -> list[dict[str, Any]]:
    in_path = set(_IN_PATH.findall(row.path))
    found = []
    for name, kind in schema.get("properties", {}).items():
        if name in in_path:
            found.append({"name": name, "in": "path", "required": True, "schema": kind})
        elif not _takes_json(row):
            required = name in schema.get("required", ())
            found.append({"name": name, "in": "query", "required": required, "schema": kind})
    return found


def _responses(row: Operation, response: Any) -> dict[str, Any]:
    problem = {"application/json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    error = {"description": "It did not work", "content": problem}
    if row.kind is Kind.WEBSOCKET:
        return {"101": {"description": "WebSocket"}, "default": error}
    media = Kind.JSON if row.kind is Kind.HTTP and response is not None else row.kind
    schema = response if response is not None else {"type": "string", "format": "binary"}
    return {"200": {"description": "Done", "content": {media.value: {"schema": schema}}}, "default": error}
