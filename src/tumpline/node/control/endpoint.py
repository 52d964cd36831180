"""The WebSocket of an endpoint: one JSON text frame and one binary frame an ADU; the client answers {"done": seq},
and hears {"done": seq} when that is kept."""

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
    """What a client says when it has dealt with an ADU, or with several. The node says the same when it has forgotten
    them durably: they will not be handed over again."""

    done: int | list[int]


class NotDone(msgspec.Struct):
    """What the node says when it could not yet keep what the client said. It goes on trying, and confirms when it has."""

    error: str
    """Why, and what follows."""
    exit_code: int
    not_done: list[int]


ENDPOINT_HEARS = (EndpointOpen, AduHead, Done, NotDone)
ENDPOINT_FRAMES = """The first frame names the endpoint (or is a Problem: somebody has it). Each ADU is a text frame with its
head and a binary frame with its payload. The client says {"done": seq} (or a list) when it has dealt with it; the node says the
same once it has forgotten the ADU durably: it will not be handed over again. If that cannot be kept within a few seconds (a full
disk), a frame with `not_done` says why; the node goes on trying and confirms later. What was not confirmed when the socket
closes may be handed to the next client of the endpoint."""


class _Outbox:
    """What is on its way to the client: ADUs, of which the node bounds how many are out, and words about them."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.queue: asyncio.Queue[Delivery | Done | NotDone] = asyncio.Queue()

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.queue.put_nowait(delivery)

    def confirmed(self, seqs: Sequence[int]) -> None:
        self.queue.put_nowait(Done(seqs[0] if len(seqs) == 1 else list(seqs)))

    def unconfirmed(self, seqs: Sequence[int]) -> None:
        failure = self._agent.snapshot()["store"].get("failure") or "the store has not answered yet"
        many = f"ADU {seqs[0]}" if len(seqs) == 1 else f"{len(seqs)} ADUs ({seqs[0]} ...)"
        text = (
            f"{many}: not kept as done: {failure}; the agent tries again, and hands over again what it could not keep"
        )
        self.queue.put_nowait(NotDone(text, StorageError.exit_code, list(seqs)))


async def endpoint(agent: Agent, request: EndpointName, http: web.Request) -> web.StreamResponse:
    """Serve one endpoint until its client goes away. Refusals come in the first frame: browsers and most libraries
    show no body of a failed handshake."""
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S)
    await socket.prepare(http)
    outbox = _Outbox(agent)
    try:
        registration = service(agent, "endpoints", Endpoints).open(request.demux, outbox)
    except TumplineError as error:
        await socket.send_str(to_json(problem_of(error)))
        await socket.close()
        return socket
    try:
        await socket.send_str(to_json(EndpointOpen(registration.eid)))
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send(socket, registration, outbox), name=f"endpoint {request.demux}")
            await _read_answers(socket, registration)
            sender.cancel()
    finally:
        registration.close()
    return socket


async def _send(socket: web.WebSocketResponse, registration: Registration, outbox: _Outbox) -> None:
    while not socket.closed:
        item = await outbox.queue.get()
        try:
            if not isinstance(item, Delivery):
                await socket.send_str(to_json(item))
                continue
            payload = _read(registration, item)
            await socket.send_str(to_json(_head(item)))
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
            registration.done(_done(message.data))
        except MalformedError as error:
            await socket.send_str(to_json(problem_of(error)))
            await socket.close()
            return


def _done(text: str) -> list[int]:
    try:
        done = msgspec.json.decode(text, type=Done).done
    except msgspec.DecodeError as error:
        raise MalformedError(f'write {{"done": seq}}: {error}') from error
    return done if isinstance(done, list) else [done]
