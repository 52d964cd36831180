"""`bp-agent`: the bundle agent alone, over convergence-layer agents on a bus."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import TumplineError
from tumpline.node.agent import Adapter, serve
from tumpline.node.config import Configuration
from tumpline.node.control.api import Agent
from tumpline.node.control.service import service
from tumpline.node.services.trace import Trace, TraceDelivered, TraceReport, TraceRequest
from tumpline.ui.agents.arguments import Asked, parse
from tumpline.ui.agents.command import ready, run, said, tell
from tumpline.ui.agents.settings import bp_configuration, read
from tumpline.ui.dbus.node import on_bus

_PING_TIMEOUT_S = 60.0
_log = logging.getLogger("tumpline.bp")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    asked = parse("bp", argv)
    try:
        configuration = bp_configuration(read(asked), asked)
    except TumplineError as error:
        return said("bp-agent", error)
    tell("bp-agent", configuration.remarks)
    name = str(configuration.node.id)
    return run(
        "bp-agent",
        serve(configuration, ready=lambda: ready(name), adapters=_adapters(configuration, asked)),
    )


def _adapters(configuration: Configuration, asked: Asked) -> list[Adapter]:
    adapters: list[Adapter] = [on_bus(configuration)] if configuration.bus.kind != "off" else []
    if asked.action == "ping":
        adapters.append(lambda agent: _pinging(agent, asked))
    return adapters


def _pinging(agent: Agent, asked: Asked) -> AbstractAsyncContextManager[None]:
    """One ping beside everything else; what comes of it goes to the log."""
    request = TraceRequest(to=asked.destination, timeout_s=_PING_TIMEOUT_S, size=asked.datalen)

    async def ping() -> None:
        try:
            async for event in service(agent, "trace", Trace).run(request):
                _tell(request.to, event)
        except TumplineError as error:
            _log.warning("ping %s: %s", request.to, error)

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        tasks = TaskOwner(lambda name, error: _log.error("%s: %r", name, error))
        tasks.start(ping(), f"ping {request.to}")
        try:
            yield
        finally:
            await tasks.stop()

    return running()


def _tell(destination: str, event: object) -> None:
    """On standard output, whatever the log's level is: somebody asked."""
    if isinstance(event, TraceReport):
        print(f"ping {destination}: {event.node} says: {', '.join(event.did)}", flush=True)
    elif isinstance(event, TraceDelivered):
        print(f"ping {destination}: delivered after {event.after_ms:.0f} ms", flush=True)
