"""Everything that control can do: one handler an operation, and the table."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from tumpline.errors import ConfigError
from tumpline.node.control import octets, openapi, stream, values
from tumpline.node.control.api import Agent
from tumpline.node.control.endpoint import ENDPOINT_FRAMES, ENDPOINT_HEARS, Done, endpoint
from tumpline.node.control.operation import Kind, Operation
from tumpline.node.control.service import service
from tumpline.node.services._outgoing import SendEvent
from tumpline.node.services.acme import Acme, AcmeEvent, AcmeExpect, AcmeExpectStop, AcmeRequest
from tumpline.node.services.ping import Ping, PingEvent, PingRequest
from tumpline.node.services.send import PipeRequest, Send, SendRequest
from tumpline.node.services.sink import Sink, SinkReport
from tumpline.node.services.source import Source, SourceEvent, SourceRequest
from tumpline.node.services.trace import Trace, TraceEvent, TraceRequest

MAX_PAGE = 1000  # bundles in one listing: about 400 kB of JSON

# ---- see -------------------------------------------------------------------------------------------------------------


async def get_openapi(_agent: Agent, _request: values.Nothing) -> dict[str, Any]:
    return openapi.document(OPERATIONS)


async def get_status(agent: Agent, _request: values.Nothing) -> dict[str, Any]:
    return agent.snapshot()


async def get_peers(agent: Agent, _request: values.Nothing) -> dict[str, Any]:
    return {"peers": agent.snapshot()["peers"]}


async def get_links(agent: Agent, _request: values.Nothing) -> dict[str, Any]:
    return {"links": agent.snapshot()["links"]}


async def get_routes(agent: Agent, _request: values.Nothing) -> dict[str, Any]:
    return {"routes": agent.snapshot()["routes"]}


async def get_contacts(agent: Agent, _request: values.Nothing) -> dict[str, Any]:
    return {"contacts": agent.snapshot()["contacts"]}


# ---- steer -----------------------------------------------------------------------------------------------------------


async def add_route(agent: Agent, request: values.RouteAdd) -> values.Ok:
    agent.add_route(request.to, request.via, request.priority, request.save)
    return values.Ok()


async def remove_route(agent: Agent, request: values.RouteRemove) -> values.Removed:
    return values.Removed(agent.remove_route(request.to, request.via, request.save))


async def add_contact(agent: Agent, request: values.ContactAdd) -> values.Ok:
    agent.add_contact(request.peer, request.start, request.duration, request.rate, request.link, request.save)
    return values.Ok()


async def remove_contact(agent: Agent, request: values.ContactRemove) -> values.Removed:
    return values.Removed(agent.remove_contact(request.peer, request.start, request.save))


async def add_link(agent: Agent, request: dict[str, Any]) -> values.Named:
    save = request.pop("save", False)
    if not isinstance(save, bool):
        raise ConfigError("save: write true or false")
    return values.Named(await agent.add_link(request, save))


async def remove_link(agent: Agent, request: values.LinkRemove) -> values.Removed:
    return values.Removed(await agent.remove_link(request.name, request.save))


async def down(agent: Agent, request: values.Down) -> values.Ok:
    agent.stop(request.graceful)
    return values.Ok()


# ---- the store -------------------------------------------------------------------------------------------------------


async def list_bundles(agent: Agent, request: values.BundlePage) -> values.Bundles:
    if request.after < 0 or not 1 <= request.limit <= MAX_PAGE:
        raise ConfigError(f"after: write 0 or more; limit: write 1 to {MAX_PAGE}")
    page = await agent.list_bundles(request.after, request.limit)
    more = len(page) == request.limit
    return values.Bundles([values.bundle_info(bundle) for bundle in page], page[-1].seq if more else None)


async def get_bundle(agent: Agent, request: values.BundleName) -> values.BundleInfo:
    async with octets.held(agent, request.id) as bundle:
        return values.bundle_info(bundle)


async def remove_bundle(agent: Agent, request: values.BundleName) -> values.Removed:
    return values.Removed(await agent.remove_bundle(request.id))


# ---- probes ----------------------------------------------------------------------------------------------------------


def ping(agent: Agent, request: PingRequest) -> AsyncGenerator[PingEvent, None]:
    return service(agent, "ping", Ping).run(request)


def trace(agent: Agent, request: TraceRequest) -> AsyncGenerator[TraceEvent, None]:
    return service(agent, "trace", Trace).run(request)


# ---- validation of node IDs ------------------------------------------------------------------------------------------


async def get_acme(agent: Agent, _request: values.Nothing) -> dict[str, Any]:
    return service(agent, "acme", Acme).describe()


async def acme_expect(agent: Agent, request: AcmeExpect) -> values.Ok:
    service(agent, "acme", Acme).expect(request)
    return values.Ok()


async def acme_expect_stop(agent: Agent, request: AcmeExpectStop) -> values.Removed:
    return values.Removed(service(agent, "acme", Acme).stop_expecting(request))


def acme_challenge(agent: Agent, request: AcmeRequest) -> AsyncGenerator[AcmeEvent, None]:
    return service(agent, "acme", Acme).run(request)


# ---- files and streams -----------------------------------------------------------------------------------------------


def send(agent: Agent, request: SendRequest) -> AsyncGenerator[SendEvent, None]:
    return service(agent, "send", Send).run(request)


# ---- load ------------------------------------------------------------------------------------------------------------


def source(agent: Agent, request: SourceRequest) -> AsyncGenerator[SourceEvent, None]:
    return service(agent, "source", Source).run(request)


async def sink(agent: Agent, request: values.SinkRequest) -> SinkReport:
    found = service(agent, "sink", Sink)
    report = found.report()
    if request.reset:
        found.reset()
    return report


Anything = dict[str, Any]

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/openapi.json", "openapi", "This description", get_openapi, values.Nothing, Anything),
    Operation("GET", "/v1/status", "status", "The whole node", get_status, values.Nothing, Anything),
    Operation("GET", "/v1/peers", "peers", "Neighbours and their paths", get_peers, values.Nothing, Anything),
    Operation("GET", "/v1/links", "links", "Links", get_links, values.Nothing, Anything),
    Operation("POST", "/v1/links", "add_link", "Open a link", add_link, Anything, values.Named, local=True),
    Operation("DELETE", "/v1/links", "remove_link", "Stop a link", remove_link, values.LinkRemove, values.Removed),
    Operation("GET", "/v1/routes", "routes", "Routes", get_routes, values.Nothing, Anything),
    Operation("POST", "/v1/routes", "add_route", "Add a route", add_route, values.RouteAdd, values.Ok),
    Operation("DELETE", "/v1/routes", "remove_route", "Drop a route", remove_route, values.RouteRemove, values.Removed),
    Operation("GET", "/v1/contacts", "contacts", "The contact plan", get_contacts, values.Nothing, Anything),
    Operation("POST", "/v1/contacts", "add_contact", "Add a contact", add_contact, values.ContactAdd, values.Ok),
    Operation(
        "DELETE",
        "/v1/contacts",
        "remove_contact",
        "Remove contacts of a peer",
        remove_contact,
        values.ContactRemove,
        values.Removed,
    ),
    Operation("POST", "/v1/down", "down", "Stop the agent", down, values.Down, values.Ok),
    Operation("GET", "/v1/bundles", "bundles", "A page of the store", list_bundles, values.BundlePage, values.Bundles),
    Operation("GET", "/v1/bundles/{id}", "bundle", "A bundle", get_bundle, values.BundleName, values.BundleInfo),
    Operation(
        "DELETE",
        "/v1/bundles/{id}",
        "remove_bundle",
        "Forget a bundle",
        remove_bundle,
        values.BundleName,
        values.Removed,
    ),
    Operation(
        "GET",
        "/v1/bundles/{id}/octets",
        "bundle_octets",
        "A bundle as it would be sent",
        octets.export_bundle,
        values.BundleName,
        kind=Kind.HTTP,
    ),
    Operation(
        "POST",
        "/v1/bundles/import",
        "import_bundle",
        "Take an encoded bundle as if a neighbour had sent it",
        octets.import_bundle,
        values.Nothing,
        values.BundleStored,
        Kind.HTTP,
        body=True,
    ),
    Operation(
        "POST",
        "/v1/adus",
        "send_adu",
        "Send one ADU",
        octets.send_adu,
        values.AduSend,
        values.BundleStored,
        Kind.HTTP,
        body=True,
    ),
    Operation("POST", "/v1/ping", "ping", "Measure round trips", ping, PingRequest, PingEvent, Kind.NDJSON),
    Operation("POST", "/v1/trace", "trace", "Show a bundle's way", trace, TraceRequest, TraceEvent, Kind.NDJSON),
    Operation("GET", "/v1/acme", "acme", "Challenges expected and outstanding", get_acme, values.Nothing, Anything),
    Operation(
        "POST",
        "/v1/acme/expect",
        "acme_expect",
        "Answer challenges for this node's ID (RFC 9891)",
        acme_expect,
        AcmeExpect,
        values.Ok,
    ),
    Operation(
        "DELETE",
        "/v1/acme/expect",
        "acme_expect_stop",
        "Answer these challenges no more",
        acme_expect_stop,
        AcmeExpectStop,
        values.Removed,
    ),
    Operation(
        "POST",
        "/v1/acme/challenge",
        "acme_challenge",
        "Challenge a node and wait for the verdict",
        acme_challenge,
        AcmeRequest,
        AcmeEvent,
        Kind.NDJSON,
    ),
    Operation("POST", "/v1/send", "send", "Send a file", send, SendRequest, SendEvent, Kind.NDJSON, local=True),
    Operation(
        "POST",
        "/v1/pipe",
        "pipe",
        "Send a stream: the answer begins while the request is still coming",
        stream.pipe,
        PipeRequest,
        SendEvent,
        Kind.HTTP,
        body=True,
    ),
    Operation("POST", "/v1/source", "source", "Send numbered ADUs", source, SourceRequest, SourceEvent, Kind.NDJSON),
    Operation("GET", "/v1/sink", "sink", "What the sink has taken", sink, values.SinkRequest, SinkReport),
    Operation(
        "GET",
        "/v1/endpoints/{demux:.+}",
        "endpoint",
        "An endpoint of the node, as long as the WebSocket is open",
        endpoint,
        values.EndpointName,
        kind=Kind.WEBSOCKET,
        hears=ENDPOINT_HEARS,
        says=Done,
        description=ENDPOINT_FRAMES,
    ),
    Operation(
        "GET",
        "/v1/events",
        "events",
        "What happens, as it happens",
        stream.events,
        values.EventFilter,
        kind=Kind.WEBSOCKET,
        hears=(stream.Event,),
    ),
)
