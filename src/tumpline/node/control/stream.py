"""The event stream: every notice of the node as one JSON text frame, in order; and NDJSON for long operations."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from tumpline.machines.effects import Notice
from tumpline.node.control.answers import problem_of
from tumpline.node.control.api import Agent
from tumpline.node.control.service import service
from tumpline.node.control.values import EventFilter
from tumpline.node.services.send import PipeRequest, Send

MAX_WAITING = 10_000  # events that one slow client may have waiting (about 5 MB); then it loses the oldest, and is told
HEARTBEAT_S = 20.0  # a client that is gone without a word is found out within twice this


class Event(msgspec.Struct):
    """A notice. `event` is its name; `event: events_dropped` tells how many the client was too slow for."""

    event: str
    fields: dict[str, Any]


class Mailbox:
    """Notices on their way to one client: bounded, and nobody ever waits to put one in."""

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self._names = names
        self._waiting: deque[Notice] = deque()
        self._dropped = 0
        self._filled = asyncio.Event()

    def put(self, notice: Notice) -> None:
        if self._names and notice.name not in self._names:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(notice)
        self._filled.set()

    async def take(self) -> list[Event]:
        """All that wait, at least one."""
        await self._filled.wait()
        self._filled.clear()
        events = [Event(notice.name, notice.fields) for notice in self._waiting]
        self._waiting.clear()
        if self._dropped:
            events.insert(0, Event("events_dropped", {"count": self._dropped}))
            self._dropped = 0
        return events


async def events(agent: Agent, request: EventFilter, http: web.Request) -> web.StreamResponse:
    """The WebSocket of the event stream. What the client sends is ignored, but for its farewell."""
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=4096)
    mailbox = Mailbox(frozenset(filter(None, request.names.split(","))))
    # Subscribed before the handshake ends: a client that sees the stream open misses nothing from then on.
    unsubscribe = agent.subscribe(mailbox.put)
    try:
        await socket.prepare(http)
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send_events(socket, mailbox), name="control events")
            await until_closed(socket)
            sender.cancel()
    finally:
        unsubscribe()
    return socket


async def _send_events(socket: web.WebSocketResponse, mailbox: Mailbox) -> None:
    while not socket.closed:
        for event in await mailbox.take():
            try:
                await socket.send_str(to_json(event))
            except ConnectionError:
                return  # the reader sees the end as well


async def until_closed(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type in (WSMsgType.CLOSE, WSMsgType.ERROR):
            return


def to_json(value: Any) -> str:
    """JSON for people's eyes: what JSON has no word for (EIDs, enums of other libraries) as text."""
    return msgspec.json.encode(value, enc_hook=str).decode()


async def pipe(agent: Agent, request: PipeRequest, http: web.Request) -> web.StreamResponse:
    """A stream goes in as the request's body while its events come out."""
    return await ndjson(http, service(agent, "send", Send).run_stream(request, http.content.iter_any()))


async def ndjson(http: web.Request, source: AsyncGenerator[Any, None]) -> web.StreamResponse:
    """Each event of the source as a line; an error after the first line is the last line. The source is closed when the
    client goes away."""
    async with aclosing(source) as events:
        first = await anext(events, None)  # what goes wrong before is an ordinary error response
        response = web.StreamResponse()
        response.content_type = "application/x-ndjson"
        await response.prepare(http)
        try:
            if first is not None:
                await response.write(to_json(first).encode() + b"\n")
            async for event in events:
                await response.write(to_json(event).encode() + b"\n")
        except ConnectionError:
            return response  # the client is gone
        except Exception as error:
            await response.write(to_json(problem_of(error)).encode() + b"\n")
        await response.write_eof()
        return response
