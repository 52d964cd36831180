"""Operations whose request or answer is octets: export, import, sending ADUs. Large ones go piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tumpline.drivers.links._api import Sink
from tumpline.drivers.links._units import put
from tumpline.errors import ConfigError, MalformedError, NoAnswerError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange, Octets, Payload, StoredBundle
from tumpline.machines.effects import Adu, Arrival
from tumpline.node.control import values
from tumpline.node.control.answers import json_response
from tumpline.node.control.api import Agent, NotFoundError
from tumpline.node.services._patience import send
from tumpline.wire.eid import Eid

PIECE_OCTETS = 1 << 20  # read from a file at a time
MAX_LIFETIME_S = 100 * 366 * 86_400  # a century; what is longer is a mistake of units


@asynccontextmanager
async def held(agent: Agent, name: str) -> AsyncIterator[StoredBundle]:
    """A held bundle, whose payload stays readable meanwhile. Raises: NotFoundError."""
    bundle = await agent.get_bundle(name)
    if bundle is None:
        raise NotFoundError(f"no bundle {name} is held: `tumpline bundles ls` lists those that are")
    try:
        yield bundle
    finally:
        if isinstance(bundle.payload, FileRange):
            bundle.payload.handle.release()


async def export_bundle(agent: Agent, request: values.BundleName, http: web.Request) -> web.StreamResponse:
    async with held(agent, request.id) as bundle:
        response = web.StreamResponse()
        response.content_type = "application/octet-stream"
        response.content_length = bundle.length
        await response.prepare(http)
        await response.write(bundle.head)
        for offset in range(0, bundle.payload.length, PIECE_OCTETS):
            await response.write(agent.read_payload(bundle.payload, offset, PIECE_OCTETS))
        await response.write(bundle.tail)
        await response.write_eof()
        return response


async def import_bundle(agent: Agent, _request: values.Nothing, http: web.Request) -> web.StreamResponse:
    octets = _announced(http)
    if octets < FILE_PAYLOAD_OCTETS:
        arrival = Arrival(0, await http.content.read(-1))
    else:
        arrival = await _into_sink(agent.reserve(octets), octets, http)
    return json_response(values.BundleStored(await agent.import_bundle(arrival)))


def _announced(http: web.Request) -> int:
    if http.content_length is None:
        raise ConfigError("the length must be known before: send Content-Length")
    return http.content_length


async def _into_sink(sink: Sink, octets: int, http: web.Request) -> Arrival:
    try:
        async for piece in http.content.iter_any():
            put(sink, piece)
            octets -= len(piece)
        if octets:
            raise MalformedError(f"{octets} octets are missing at the end of the bundle")
        return sink.finish(0)
    except BaseException:
        sink.abort()
        raise


async def send_adu(agent: Agent, request: values.AduSend, http: web.Request) -> web.StreamResponse:
    if not 0 < request.lifetime_s <= MAX_LIFETIME_S:
        raise ConfigError(f"lifetime_s: write seconds, more than 0 and at most {MAX_LIFETIME_S}")
    destination = Eid.parse(request.to)
    report_to = Eid.parse(request.report_to) if request.report_to else None
    payload = await _read_payload(agent, http)
    adu = Adu(
        destination,
        payload,
        source_demux=request.source,
        lifetime_ms=int(request.lifetime_s * 1000),
        report_to=report_to,
    )
    bundle = await send(agent, adu, request.wait_s, lambda why: _require_client(http, why))
    return json_response(values.BundleStored(bundle))


def _require_client(http: web.Request, why: str) -> None:
    """Nothing is sent for a client that has gone. Raises: NoAnswerError."""
    if http.transport is None or http.transport.is_closing():
        raise NoAnswerError(f"the client did not wait for room: {why}")


async def _read_payload(agent: Agent, http: web.Request) -> Payload:
    octets = http.content_length
    if octets is not None and octets < FILE_PAYLOAD_OCTETS:
        return Octets(await http.content.read(-1))
    writer = agent.writer()
    try:
        async for piece in http.content.iter_any():
            writer.write(piece)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise
