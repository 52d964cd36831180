"""The WebSocket of an endpoint: one JSON text frame and one binary frame an ADU; the client answers {"done": seq}."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aiohttp import WSMsgType, web

from tumpline.errors import ConfigError, MalformedError, StorageError, TumplineError
from tumpline.machines.effects import Delivery
from tumpline.node.control.answers import problem_of
from tumpline.node.control.api import Agent
from tumpline.node.control.service import service
from tumpline.node.control.stream import HEARTBEAT_S, to_json
from tumpline.node.control.values import EndpointName
from tumpline.node.services.endpoints import Endpoints, Registration

MAX_ADU_OCTETS = 1 << 28  # sent in one frame and held whole meanwhile; larger ones stay stored (files come in chunks)


class EndpointOpen(msgspec.Struct):
    """The first frame."""

    endpoint: str
    """EID under which the client can be reached now."""


class AduHead(msgspec.Struct):
    """The text frame before each ADU's payload."""

    seq: int
    source: str
    destination: str
    created_ms: int
    sequence: int
    lifetime_ms: int
    admin: bool


class Done(msgspec.Struct, forbid_unknown_fields=True):
    """What a client says when it has dealt with an ADU, or with several."""

    done: int | list[int]


class _Inbox:
    """Deliveries on their way to the client; the node bounds how many are out."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Delivery] = asyncio.Queue()

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.queue.put_nowait(delivery)


async def endpoint(agent: Agent, request: EndpointName, http: web.Request) -> web.StreamResponse:
    """Serve one endpoint until its client goes away. Refusals come in the first frame: browsers and most libraries
    show no body of a failed handshake."""
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S)
    await socket.prepare(http)
    inbox = _Inbox()
    try:
        registration = service(agent, "endpoints", Endpoints).open(request.demux, inbox)
    except TumplineError as error:
        await socket.send_str(to_json(problem_of(error)))
        await socket.close()
        return socket
    try:
        await socket.send_str(to_json(EndpointOpen(registration.eid)))
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send_adus(socket, registration, inbox), name=f"endpoint {request.demux}")
            await _read_answers(socket, registration)
            sender.cancel()
    finally:
        registration.close()
    return socket


async def _send_adus(socket: web.WebSocketResponse, registration: Registration, inbox: _Inbox) -> None:
    while not socket.closed:
        delivery = await inbox.queue.get()
        try:
            payload = _read(registration, delivery)
            await socket.send_str(to_json(_head(delivery)))
            await socket.send_bytes(payload)
        except (StorageError, ConfigError) as error:
            await socket.send_str(to_json(problem_of(error)))
            await socket.close()  # the ADU stays stored
        except ConnectionError:
            return  # the reader sees the end as well


def _read(registration: Registration, delivery: Delivery) -> bytes:
    if delivery.payload.length > MAX_ADU_OCTETS:
        raise ConfigError(f"an ADU of {delivery.payload.length} octets does not fit here; `tumpline send` cuts files")
    return registration.read(delivery)


def _head(delivery: Delivery) -> AduHead:
    return AduHead(
        delivery.seq,
        str(delivery.source),
        str(delivery.destination),
        delivery.created_ms,
        delivery.sequence,
        delivery.lifetime_ms,
        delivery.admin,
    )


async def _read_answers(socket: web.WebSocketResponse, registration: Registration) -> None:
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            return
        try:
            answer = msgspec.json.decode(message.data, type=Done)
        except msgspec.DecodeError as error:
            await socket.send_str(to_json(problem_of(MalformedError(f'write {{"done": seq}}: {error}'))))
            await socket.close()
            return
        registration.done(answer.done if isinstance(answer.done, list) else [answer.done])
