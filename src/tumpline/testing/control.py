"""A twin of the agent for tests of control: what it was asked is kept, its bundles lie in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from tumpline.drivers.links._api import Sink
from tumpline.drivers.stores._api import PayloadWriter
from tumpline.errors import RefusedError
from tumpline.machines.contract import FileRange, Octets, Payload, StoredBundle
from tumpline.machines.effects import Adu, Arrival, Notice, RefuseReason
from tumpline.node.control.api import NotFoundError
from tumpline.node.services._api import Service
from tumpline.testing.services import MemoryFile, MemoryNode, MemoryWriter, read_payload
from tumpline.wire.bundle7 import bundle_id, split_whole


class MemorySink:
    """A Sink into memory, in small buffers."""

    def __init__(self, octets: int) -> None:
        self._data = bytearray(octets)
        self._at = 0
        self.aborted = False

    def buffer(self, most: int) -> memoryview:
        return memoryview(self._data)[self._at : self._at + min(most, 1000)]

    def more(self, octets: int) -> RefuseReason | None:
        self._data += bytes(octets)
        return None

    def advance(self, count: int) -> None:
        self._at += count

    def finish(self, transfer: int) -> Arrival:
        assert self._at == len(self._data), "finished before all octets came"
        return Arrival(transfer, bytes(self._data))

    def abort(self) -> None:
        self.aborted = True


class MemoryAgent:
    """The Agent of a MemoryNode."""

    def __init__(self, node: MemoryNode) -> None:
        self.node = node
        self.asked: list[tuple[Any, ...]] = []  # calls that change something, with their arguments
        self.bundles: list[StoredBundle] = []
        self.sinks: list[MemorySink] = []
        self.callbacks: list[Callable[[Notice], None]] = []
        self.stopped: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.failure: str | None = None  # of the store, as snapshots tell it
        self.wrong: Exception | None = None  # raised by the next call that changes something

    def _ask(self, *call: Any) -> None:
        error, self.wrong = self.wrong, None
        if error is not None:
            raise error
        self.asked.append(call)

    def snapshot(self) -> dict[str, Any]:
        return {
            "node_id": str(self.node.node_id),
            "store": {"failure": self.failure},
            "peers": [],
            "links": [],
            "routes": [],
            "contacts": [],
        }

    def subscribe(self, callback: Callable[[Notice], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def tell(self, name: str, **fields: Any) -> None:
        """A notice for all who listen."""
        for callback in self.callbacks:
            callback(Notice(name, fields))

    def service(self, name: str) -> Service:
        context = self.node.contexts.get(name)
        if context is None:
            raise NotFoundError(f"this node has no {name}: add [services.{name}] to its configuration")
        return context.service

    def add_route(self, to: str, via: str, priority: int = 10, save: bool = False) -> None:
        self._ask("add_route", to, via, priority, save)

    def remove_route(self, to: str, via: str, save: bool = False) -> bool:
        self._ask("remove_route", to, via, save)
        return True

    def add_contact(
        self,
        peer: str,
        start: str,
        duration: str,
        rate: str | None = None,
        link: str | None = None,
        save: bool = False,
    ) -> None:
        self._ask("add_contact", peer, start, duration, rate, link, save)

    def remove_contact(self, peer: str, start: str | None = None, save: bool = False) -> bool:
        self._ask("remove_contact", peer, start, save)
        return False

    async def add_link(self, config: dict[str, Any], save: bool = False) -> str:
        self._ask("add_link", config, save)
        return str(config["kind"])

    async def remove_link(self, name: str, save: bool = False) -> bool:
        self._ask("remove_link", name, save)
        return True

    def hold(self, encoded: bytes, in_file: bool = False) -> StoredBundle:
        """Put an encoded bundle into the store."""
        head, payload, tail = split_whole(encoded)
        identity = bundle_id(head.primary, len(payload))
        kept: Payload = FileRange(MemoryFile(b"xx" + payload), 2, len(payload)) if in_file else Octets(payload)
        primary = head.primary
        bundle = StoredBundle(
            seq=len(self.bundles) + 1,
            key=identity.key,
            adu_key=identity.adu_key,
            destination=str(primary.destination),
            expires_ms=primary.created_ms + primary.lifetime_ms,
            received_ms=primary.created_ms,
            age_ms=0,
            previous="",
            fragment_offset=-1,
            head=encoded[: head.payload_offset],
            payload=kept,
            tail=tail,
        )
        self.bundles.append(bundle)
        return bundle

    async def list_bundles(self, after: int, limit: int) -> list[StoredBundle]:
        return [bundle for bundle in self.bundles if bundle.seq > after][:limit]

    async def get_bundle(self, bundle: str) -> StoredBundle | None:
        for held in self.bundles:
            head, _, _ = split_whole(held.head + read_payload(held.payload, 0, held.payload.length) + held.tail)
            if bundle in (str(held.seq), str(bundle_id(head.primary, held.payload.length))):
                if isinstance(held.payload, FileRange):
                    held.payload.handle.retain()
                return held
        return None

    async def remove_bundle(self, bundle: str) -> bool:
        held = await self.get_bundle(bundle)
        if held is not None:
            self.bundles.remove(held)
        return held is not None

    def reserve(self, octets: int) -> Sink:
        if self.node.refuse is not None:
            raise RefusedError(self.node.refuse)
        self.sinks.append(MemorySink(octets))
        return self.sinks[-1]

    async def import_bundle(self, arrival: Arrival) -> str:
        head, payload, _ = split_whole(arrival.data)
        self.hold(arrival.data)
        return str(bundle_id(head.primary, len(payload)))

    def read_payload(self, payload: Payload, offset: int, length: int) -> bytes:
        return read_payload(payload, offset, length)

    def writer(self) -> PayloadWriter:
        return MemoryWriter()

    def send(self, adu: Adu) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if (why_not := self.node.why_not()) is not None:
            future.set_exception(why_not)
        else:
            future.set_result(self.node.originate(adu))
        return future

    async def room(self, adus: Sequence[Adu], most_s: float) -> int:
        return await self.node.room(adus, most_s)

    def send_many(self, adus: Sequence[Adu]) -> asyncio.Future[list[str]]:
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        future.set_result([self.node.originate(adu) for adu in adus])
        return future

    def stop(self, graceful: bool = True) -> None:
        if not self.stopped.done():
            self.stopped.set_result(graceful)
