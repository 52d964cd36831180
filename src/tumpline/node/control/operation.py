"""What one operation of control is: a row of the table from which routes, OpenAPI and the docs are made."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple


class Kind(Enum):
    """How an operation answers, and so what its handler is."""

    JSON = "application/json"  # async (agent, request) -> response
    NDJSON = "application/x-ndjson"  # (agent, request) -> async iterator of events, one a line
    HTTP = "application/octet-stream"  # async (agent, request, aiohttp request) -> aiohttp response: octets in or out
    WEBSOCKET = "websocket"  # as HTTP


class Operation(NamedTuple):
    """One row. `request` is a msgspec.Struct filled from path, query and JSON body, or dict for any JSON object."""

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[..., Any]
    request: Any
    response: Any = None  # the type of the answer (of each event)
    kind: Kind = Kind.JSON
    body: bool = False  # the request's body is octets: parameters come in the query
    hears: tuple[Any, ...] = ()  # of a WebSocket: the types of its text frames to the client
    says: Any = None  # and of those from the client
    description: str = ""
    local: bool = False  # only over the UNIX socket: it acts with the agent's rights on the agent's machine
