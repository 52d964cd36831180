"""A node in memory for tests of services: what was committed outlives `crash`, everything else does not."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tumpline.drivers.stores._api import PayloadWriter
from tumpline.errors import NoRoomError, RefusedError, TumplineError
from tumpline.machines.contract import FileRange, Octets, Payload
from tumpline.machines.effects import AdminRecord, Adu, Delivery, Outcome
from tumpline.node.services._api import Administering, Confirming, Service, ServiceSpec
from tumpline.wire.admin import UnknownRecord, decode_admin_untrusted
from tumpline.wire.eid import IPN, Eid

MAX_OUT = 32  # deliveries that a service is given before it answers one
T = TypeVar("T")
_clock_ms = itertools.count(800_000_000_000)


class MemoryFile:
    """A handle whose octets lie in memory; `readers` counts who holds it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.readers = 1

    def retain(self) -> None:
        assert self.readers > 0, "retained after it was freed"
        self.readers += 1

    def release(self) -> None:
        assert self.readers > 0, "released more often than retained"
        self.readers -= 1


class MemoryWriter:
    """A PayloadWriter."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        self._data += data

    def finish(self) -> FileRange:
        return FileRange(MemoryFile(bytes(self._data)), 0, len(self._data))

    def abort(self) -> None:
        self._data.clear()


def read_payload(payload: Payload, offset: int, length: int) -> bytes:
    """Octets of a payload made here."""
    if isinstance(payload, Octets):
        return payload.data[offset : offset + length]
    assert isinstance(payload.handle, MemoryFile), "only payloads made here can be read here"
    assert payload.handle.readers > 0, "read after it was freed"
    end = min(offset + length, payload.length)
    return payload.handle.data[payload.offset + offset : payload.offset + end]


class MemoryNode:
    """One node with services. `network` maps node IDs to the nodes that its bundles reach; bundles for others are kept
    in `out`. `held_back` (if set) says which ADUs wait in `out` although their node is there."""

    def __init__(self, node_id: str, state_dir: Path, network: dict[Eid, MemoryNode] | None = None) -> None:
        self.node_id = Eid.parse(node_id)
        self.state_dir = state_dir
        self.network = network if network is not None else {}
        self.network[self.node_id] = self
        self.out: list[tuple[Eid, Adu]] = []
        self.held_back: Callable[[Adu], bool] = lambda _adu: False
        self.refuse: str | None = None  # the reason why ADUs are refused
        self.full: str | None = None  # the reason why there is no room for ADUs
        self.asked_for_room = 0
        self.emptied = asyncio.Event()
        self.confirms = True  # services that want to know when answers are kept are told so
        self.sent: list[Adu] = []  # everything ever stored
        self.notices: list[tuple[str, dict[str, Any]]] = []
        self.state: dict[str, dict[str, bytes]] = {}
        self.waiting: dict[int, Delivery] = {}  # stored ADUs for local endpoints, by seq
        self.contexts: dict[str, MemoryContext] = {}
        self.specs: dict[str, ServiceSpec] = {}
        self.owners: dict[str, str] = {}  # demux -> service
        self.record_takers: dict[int, str] = {}  # type of administrative record -> service
        self.transactions = 0
        self.crash_at: tuple[int, bool] | None = None  # the number of a transaction, and whether it is still committed
        self.crashed = asyncio.Event()
        self._seqs = itertools.count(1)
        self._group: set[asyncio.Task[None]] = set()

    async def add(self, spec: ServiceSpec, service: Service) -> MemoryContext:
        """Start a service, as the runtime would."""
        context = MemoryContext(self, spec, service)
        self.contexts[spec.name] = context
        self.specs[spec.name] = spec
        if spec.registers and spec.demux:
            context.register()
        await service.start(context)
        return context

    async def crash(self) -> None:
        """The process is gone: tasks, registrations and what services were doing. What was committed stays."""
        for context in self.contexts.values():
            context.dead = True
        await self._end_tasks()
        self.contexts.clear()
        self.owners.clear()
        self.crashed.clear()
        self.crash_at = None

    async def stop(self) -> None:
        for context in self.contexts.values():
            await context.service.stop()
        await self._end_tasks()

    async def _end_tasks(self) -> None:
        tasks = list(self._group)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def transact(self, action: Callable[[], None]) -> bool:
        """Carry out a transaction, unless the node crashes first; False if it has crashed now."""
        if self.crashed.is_set():
            return False
        self.transactions += 1
        here = self.crash_at is not None and self.crash_at[0] == self.transactions
        if here and self.crash_at is not None and not self.crash_at[1]:
            self.crashed.set()
            return False
        action()
        if here:
            self.crashed.set()
        return not here

    # ---- bundles -----------------------------------------------------------------------------------------------------

    def originate(self, adu: Adu) -> str:
        self.sent.append(adu)
        created_ms = next(_clock_ms)
        target = self.network.get(adu.destination.node)
        source = (adu.source_node or self.node_id).with_demux(adu.source_demux)
        if target is None or self.held_back(adu):
            self.out.append((source, adu))
        else:
            target.arrive(source, adu, created_ms)
        return f"{source}@{created_ms}-0"

    def arrive(self, source: Eid, adu: Adu, created_ms: int | None = None, admin: bool = False) -> int:
        """An ADU for one of our endpoints is stored, and delivered as soon as somebody is registered."""
        seq = next(self._seqs)
        created_ms = next(_clock_ms) if created_ms is None else created_ms
        if adu.admin and not adu.destination.demux:
            asyncio.get_running_loop().call_soon(self._administer, source, adu, created_ms)
            return seq
        self.waiting[seq] = Delivery(
            seq, source, adu.destination, created_ms, 0, adu.lifetime_ms, admin or adu.admin, adu.payload
        )
        self.deliver_waiting()
        return seq

    def _administer(self, source: Eid, adu: Adu, created_ms: int) -> None:
        record = decode_admin_untrusted(read_payload(adu.payload, 0, adu.payload.length))
        taker = self.record_takers.get(record.code) if isinstance(record, UnknownRecord) else None
        if taker is not None:
            service: object = self.contexts[taker].service
            assert isinstance(service, Administering), "who registers for records can take them"
            expires_ms = created_ms + adu.lifetime_ms
            service.administer(AdminRecord(source, adu.destination, created_ms, 0, expires_ms, adu.wants_ack, record))

    def flush(self) -> None:
        """Let go what was held back."""
        held, self.out = self.out, []
        for source, adu in held:
            target = self.network.get(adu.destination.node)
            if target is None:
                self.out.append((source, adu))
            else:
                target.arrive(source, adu)

    def deliver_waiting(self) -> None:
        asyncio.get_running_loop().call_soon(self._deliver_waiting)

    def _deliver_waiting(self) -> None:
        for name, context in list(self.contexts.items()) if not self.crashed.is_set() else ():
            mine = [
                delivery
                for seq, delivery in self.waiting.items()
                if self.owners.get(delivery.destination.demux) == name and seq not in context.given
            ]
            batch = mine[: max(0, MAX_OUT - len(context.given))]
            if batch:
                context.given.update(delivery.seq for delivery in batch)
                context.service.deliver(batch)

    def commit(self, name: str, answers: Sequence[tuple[int, Outcome]]) -> None:
        for seq, outcome in answers:
            assert seq in self.waiting, f"{name} answered {seq}, which it was not given or has answered before"
            del self.waiting[seq]
            self.write(name, dict(outcome.state))
            for adu in outcome.adus:
                self.originate(adu)
        service: object = self.contexts[name].service
        if isinstance(service, Confirming) and self.confirms:
            service.committed([seq for seq, _ in answers])
        self.deliver_waiting()

    def why_not(self, adus: int = 1) -> TumplineError | None:
        """What `send` says to so many ADUs; None: they are taken."""
        if self.refuse is not None:
            return RefusedError(self.refuse)
        return NoRoomError(self.full, list(range(adus))) if self.full is not None else None

    async def room(self, adus: Sequence[Adu], most_s: float) -> int:
        self.asked_for_room += 1
        if self.full is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.emptied.wait(), most_s)
        return len(adus) if self.full is None else 0

    def empty(self) -> None:
        """There is room again."""
        self.full = None
        self.emptied.set()

    def write(self, name: str, items: Mapping[str, bytes | None]) -> None:
        records = self.state.setdefault(name, {})
        for key, value in items.items():
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._group.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._group.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.notices.append(("task_failed", {"task": task.get_name(), "error": repr(error)}))


class MemoryContext:
    """The ServiceContext of one service on a MemoryNode."""

    def __init__(self, node: MemoryNode, spec: ServiceSpec, service: Service) -> None:
        self.node = node
        self.spec = spec
        self.service = service
        self.node_id = node.node_id
        self.state_dir = node.state_dir / spec.name
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.given: set[int] = set()
        self.retries: list[tuple[int, float]] = []  # what `failed` was told
        self.dead = False

    def send(self, adu: Adu) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if (why_not := self.node.why_not()) is not None:
            future.set_exception(why_not)
        else:
            self._transact(future, lambda: self.node.originate(adu))
        return future

    def send_many(self, adus: Sequence[Adu]) -> asyncio.Future[list[str]]:
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        if (why_not := self.node.why_not(len(adus))) is not None:
            future.set_exception(why_not)
        else:
            self._transact(future, lambda: [self.node.originate(adu) for adu in adus])
        return future

    async def room(self, adus: Sequence[Adu], most_s: float) -> int:
        return await self.node.room(adus, most_s)

    def _transact(self, future: asyncio.Future[T], action: Callable[[], T]) -> None:
        """The future ends when the transaction is durable: never, if the node crashed."""
        results: list[T] = []
        if not self.dead and self.node.transact(lambda: results.append(action())):
            future.set_result(results[0])

    def done(self, answers: Sequence[tuple[int, Outcome]]) -> None:
        if not self.dead and not self.node.crashed.is_set():
            self.given.difference_update(seq for seq, _ in answers)
            self.node.transact(lambda: self.node.commit(self.spec.name, answers))

    def failed(self, seq: int, retry_s: float) -> None:
        """The delivery stays out until `retry`."""
        self.retries.append((seq, retry_s))

    def retry(self) -> None:
        """The time of all retries has come."""
        self.given.difference_update(seq for seq, _ in self.retries)
        self.retries.clear()
        self.node.deliver_waiting()

    def read_payload(self, payload: Payload, offset: int, length: int) -> bytes:
        return read_payload(payload, offset, length)

    def held_octets(self) -> int:
        return 0

    def pieces(self, payload: Payload, offset: int = 0) -> Iterator[bytes | memoryview]:
        """In two, so that nobody relies on one."""
        middle = (offset + payload.length + 1) // 2
        yield read_payload(payload, offset, middle - offset)
        yield read_payload(payload, middle, payload.length - middle)

    def writer(self) -> PayloadWriter:
        return MemoryWriter()

    async def get_state(self, prefix: str = "") -> dict[str, bytes]:
        records = self.node.state.get(self.spec.name, {})
        return {key: value for key, value in records.items() if key.startswith(prefix)}

    async def put_state(self, items: Mapping[str, bytes | None]) -> None:
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transact(durable, lambda: self.node.write(self.spec.name, items))
        await durable

    def register(self, demux: str = "") -> None:
        demuxes = [demux] if demux else [self.spec.demux, str(self.spec.ipn_service)]
        for one in demuxes:
            if self.node.owners.setdefault(one, self.spec.name) != self.spec.name:
                raise RefusedError(f"the endpoint {one} belongs to the service {self.node.owners[one]}")
        self.node.deliver_waiting()

    def unregister(self, demux: str = "") -> None:
        for one in [demux] if demux else [self.spec.demux, str(self.spec.ipn_service)]:
            self.node.owners.pop(one, None)

    def register_records(self, code: int) -> None:
        self.node.record_takers[code] = self.spec.name

    def demux_for(self, name: str) -> str:
        spec = self.node.specs.get(name, self.spec)
        return str(spec.ipn_service) if self.node_id.scheme == IPN else spec.demux

    def new_demux(self, prefix: str) -> str:
        chance = os.urandom(4)
        return str(int.from_bytes(chance) | 1 << 33) if self.node_id.scheme == IPN else f"{prefix}-{chance.hex()}"

    def is_local(self, eid: Eid) -> bool:
        return eid.node == self.node_id

    def notice(self, name: str, **fields: Any) -> None:
        self.node.notices.append((name, fields))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self.node.spawn(work, name)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback)

    def now(self) -> float:
        return time.monotonic()

    def dtn_ms(self) -> int:
        return next(_clock_ms)
