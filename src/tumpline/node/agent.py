"""The running agent: everything a configuration names, put together, started and stopped; and what control asks of it.

`serve` is one agent's whole life. `tumpline up` calls it; tests and programs that embed a node do too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from tumpline import __version__
from tumpline.drivers.links._api import LinkContext, Sink
from tumpline.drivers.payload import read_range, retain
from tumpline.drivers.stores._api import PayloadWriter
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import RefusedError
from tumpline.machines.contract import Payload, StoredBundle
from tumpline.machines.effects import Adu, Arrival, Notice
from tumpline.machines.node import NodeConfig, NodeMachine
from tumpline.machines.plan import Route
from tumpline.machines.storage import Get, Listing
from tumpline.node.config import Configuration, LinkSettings, ServiceSettings, read_link
from tumpline.node.control.api import NotFoundError
from tumpline.node.control.server import ControlServer, tcp_control
from tumpline.node.endpoints import Endpoints
from tumpline.node.events import EventStream, log_to
from tumpline.node.host import Host, ReservedSink
from tumpline.node.importing import ImportLink
from tumpline.node.runtime import Runtime
from tumpline.node.service_host import ServiceHost, first_of
from tumpline.node.services._api import Service
from tumpline.node.state import StateDir
from tumpline.wire.bundle7 import bundle_id, decode_head_untrusted
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

LISTING_MOST = 1000


class Agent:
    """One node, running. Implements tumpline.node.control.api.Agent."""

    def __init__(self, configuration: Configuration, state: StateDir) -> None:
        self.configuration = configuration
        self.events = EventStream()
        self.stopped = asyncio.Event()
        self._graceful = True
        self._state = state
        self._started_at = time.monotonic()
        self._tasks = TaskOwner(self._task_failed)
        node = NodeConfig(**configuration.node_config)
        store = configuration.store.spec.open(configuration.store.config, state.directory("store"))
        routing = configuration.routing.spec.open(configuration.routing.config)
        machine = NodeMachine(node, random.SystemRandom().random, routing)
        self.runtime = Runtime(machine, store, self.events, self._spawn)
        self.node_ids = [node.node_id, *node.aliases]
        self._endpoints = Endpoints()
        self._service_hosts: list[ServiceHost] = []
        self._plan = configuration.plan(state)

    # ---- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up; when it returns, peers and people can reach us. Raises: TumplineError with the remedy."""
        runtime, now = self.runtime, self.runtime.now()
        runtime.start()
        self._import = ImportLink(runtime, self.configuration.node.rules())
        for route in self.configuration.routes:
            runtime.machine.add_route(route, now)
        for contact in self._plan.contacts:
            runtime.machine.add_contact(contact, now)
        for settings in self.configuration.services:
            await self._start_service(settings)
        for link in self.configuration.links:
            await self._start_link(link)
        for peer in self.configuration.peers:
            runtime.machine.add_peer(peer, now)
        runtime.turn()

    async def _start_service(self, settings: ServiceSettings) -> None:
        service = settings.spec.open(settings.config)
        directory = self._state.directory("services") / service.name
        host = ServiceHost(self.runtime, self._endpoints, self.node_ids, settings.spec, service, directory)
        self._service_hosts.append(host)
        await host.start()

    async def _start_link(self, settings: LinkSettings) -> None:
        context = LinkContext(settings.name, self.node_ids[0], random.SystemRandom().random)
        link = settings.spec.open(settings.config, context)
        await link.start(Host(self.runtime, link))
        self.runtime.links[settings.name] = link

    async def close(self) -> None:
        """End everything, in the order that loses nothing: links first, then services, then the store."""
        links = self.runtime.links.values()
        await asyncio.gather(*(link.stop(graceful=self._graceful) for link in links))
        for host in self._service_hosts:
            await host.stop()
        await self._tasks.stop()
        await self.runtime.stop()

    def stop(self, graceful: bool = True) -> None:
        self._graceful = graceful
        self.stopped.set()

    def _spawn(self, work: Any, name: str) -> None:
        self._tasks.start(work, name)

    def _task_failed(self, name: str, error: BaseException) -> None:
        self.events.notice("task_failed", {"task": name, "error": repr(error)})

    # ---- see ----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        machine = self.runtime.machine.snapshot(self.runtime.now())
        held = machine["store"]
        return {
            "name": self.configuration.name,
            "node_id": str(self.node_ids[0]),
            "aliases": [str(eid) for eid in self.node_ids[1:]],
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started_at, 3),
            "config": str(self.configuration.path) if self.configuration.path else None,
            "state_dir": str(self._state.path),
            "control": [str(path) for path in self.configuration.control_sockets(self._state)],
            "store": {
                "kind": self.configuration.store.spec.scheme,
                "bundles": sum(queue["bundles"] for queue in machine["queues"]),
                "octets": held["octets"],
                "quota_octets": held["quota"],
                "failure": held["failure"],
            },
            "counters": machine["counters"],
            "queues": machine["queues"],
            "peers": [row for neighbour in machine["neighbours"] for row in _peer_rows(neighbour)],
            "links": [{"name": name, **link.describe()} for name, link in self.runtime.links.items()],
            "routes": machine["routes"],
            "contacts": machine["contacts"],
            "services": {host.service.name: host.service.describe() for host in self._service_hosts},
        }

    def subscribe(self, callback: Callable[[Notice], None]) -> Callable[[], None]:
        return self.events.subscribe(callback)

    def service(self, name: str) -> Service:
        service = self.runtime.services.get(name)
        if service is None:
            raise NotFoundError(f"this agent runs no service {name!r}: add [services.{name}] to its configuration")
        return service

    # ---- steer --------------------------------------------------------------------------------------------------------

    def add_route(self, to: str, via: str, priority: int = 10, save: bool = False) -> None:
        route = Route(EidPattern.parse(to), Eid.parse(via), priority)
        self.runtime.machine.add_route(route, self.runtime.now())
        self.runtime.turn()
        if save:
            self.configuration.save_route(to, via, priority)

    def remove_route(self, to: str, via: str, save: bool = False) -> bool:
        found = self.runtime.machine.remove_route(EidPattern.parse(to), Eid.parse(via), self.runtime.now())
        self.runtime.turn()
        if save:
            self.configuration.drop_route(to, via)
        return found

    def add_contact(
        self, peer: str, start: str, duration: str, rate: str | None = None, link: str | None = None, save: bool = False
    ) -> None:
        contact = self._plan.add(peer, start, duration, rate, link, save)
        self.runtime.machine.add_contact(contact, self.runtime.now())
        self.runtime.turn()

    def remove_contact(self, peer: str, start: str | None = None, save: bool = False) -> bool:
        contacts = self._plan.remove(peer, start, save)
        for contact in contacts:
            self.runtime.machine.remove_contact(contact, self.runtime.now())
        self.runtime.turn()
        return bool(contacts)

    async def add_link(self, config: dict[str, Any], save: bool = False) -> str:
        known = self.configuration
        settings = read_link(config, known.registry, known.base, list(self.runtime.links))
        await self._start_link(settings)
        self.runtime.turn()
        if save:
            self.configuration.save_link(config)
        return settings.name

    async def remove_link(self, name: str, save: bool = False) -> bool:
        link = self.runtime.links.pop(name, None)
        if link is None:
            return False
        await link.stop()
        if save:
            self.configuration.drop_link(name)
        return True

    # ---- the store ----------------------------------------------------------------------------------------------------

    async def list_bundles(self, after: int, limit: int) -> list[StoredBundle]:
        page: list[StoredBundle] = (await self.runtime.ask([Listing(after, min(limit, LISTING_MOST))]))[0]
        return page

    async def get_bundle(self, bundle: str) -> StoredBundle | None:
        seq = await self._seq(bundle)
        found: list[StoredBundle] = (await self.runtime.ask([Get([seq])]))[0] if seq is not None else []
        if not found:
            return None
        retain(found[0].payload)
        return found[0]

    async def remove_bundle(self, bundle: str) -> bool:
        seq = await self._seq(bundle)
        if seq is None or not (await self.runtime.ask([Get([seq])]))[0]:
            return False
        self.runtime.machine.remove(seq, self.runtime.now())
        self.runtime.turn()
        return True

    async def _seq(self, bundle: str) -> int | None:
        """The number of a bundle that a person named by number or identity."""
        if bundle.isdecimal():
            return int(bundle)
        async for held in self._everything():
            head = decode_head_untrusted(held.head)
            if head is not None and str(bundle_id(head.primary, head.payload_length)) == bundle:
                return held.seq
        return None

    async def _everything(self) -> AsyncIterator[StoredBundle]:
        after = 0
        while page := await self.list_bundles(after, LISTING_MOST):
            for held in page:
                yield held
            after = page[-1].seq

    def reserve(self, octets: int) -> Sink:
        if (reason := self.runtime.machine.may_receive(octets)) is not None:
            raise RefusedError(f"no room for {octets} octets: {reason.value}; raise [store] quota_bytes or free some")
        try:
            return ReservedSink(self.runtime, self.runtime.store.sink(octets), octets)
        except BaseException:
            self.runtime.machine.release(octets)
            raise

    async def import_bundle(self, arrival: Arrival) -> str:
        return await self._import.take(arrival)

    def read_payload(self, payload: Payload, offset: int, length: int) -> bytes:
        return read_range(payload, offset, max(0, min(length, payload.length - offset)))

    # ---- applications -------------------------------------------------------------------------------------------------

    def writer(self) -> PayloadWriter:
        return self.runtime.store.writer()

    def send(self, adu: Adu) -> asyncio.Future[str]:
        return first_of(self.runtime.originate([adu]))

    def send_many(self, adus: Sequence[Adu]) -> asyncio.Future[list[str]]:
        return self.runtime.originate(adus)

    async def room(self, adus: Sequence[Adu], most_s: float) -> int:
        return await self.runtime.room(adus, most_s)


def _peer_rows(neighbour: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each path to a neighbour; one that says "down" where there is none."""
    common = {"id": neighbour["id"], "state": "up" if neighbour["up"] else "down"}
    if not neighbour["paths"]:
        return [{**common, "link": "", "address": "", "security": "none", "authenticated": False, "in_flight": 0}]
    return [{**common, **path} for path in neighbour["paths"]]


Adapter = Callable[[Agent], contextlib.AbstractAsyncContextManager[None]]
"""What shows a running agent to somebody else (D-Bus ...), as long as it is entered: from when control is up to when the
agent begins to stop. It works with what tumpline.node.control.api.Agent has."""


async def serve(
    configuration: Configuration, *, ready: Callable[[], None] | None = None, adapters: Sequence[Adapter] = ()
) -> int:
    """Run an agent until it is told to stop (SIGINT, SIGTERM, control); returns its exit code.

    Raises: TumplineError with the remedy, if it cannot start; nothing runs then."""
    with contextlib.ExitStack() as held:
        state = held.enter_context(StateDir.hold(configuration.state_dir, configuration.name))
        held.enter_context(log_to(configuration.log))
        agent = Agent(configuration, state)
        control = ControlServer(agent, configuration.control_sockets(state), tcp_control(configuration.control))
        loop, started = asyncio.get_running_loop(), False
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, agent.stop)
        try:
            await agent.start()
            await control.start()
            async with contextlib.AsyncExitStack() as shown:
                for adapter in adapters:
                    await shown.enter_async_context(adapter(agent))
                started = True
                agent.events.notice("agent_started", {"node": str(agent.node_ids[0]), "pid": os.getpid()})
                if ready is not None:
                    ready()
                await agent.stopped.wait()
        finally:
            await control.stop()
            await agent.close()
            if started:  # otherwise the error says it all
                agent.events.notice("agent_stopped", {"node": str(agent.node_ids[0])})
    return 0
