"""What the node is to one of its services: the ServiceContext of tumpline.node.services._api."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tumpline.drivers.payload import pieces, read_range
from tumpline.drivers.stores._api import PayloadWriter
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import ConfigError, RefusedError
from tumpline.machines.contract import Payload
from tumpline.machines.effects import Adu, Notice, Outcome
from tumpline.machines.storage import GetState, PutState
from tumpline.node.endpoints import Endpoints
from tumpline.node.runtime import Runtime, dtn_now_ms
from tumpline.node.services._api import Administering, Confirming, Service, ServiceSpec
from tumpline.wire.eid import Eid

# RFC 9758: service numbers from here on are for private use; ephemeral endpoints draw from them.
EPHEMERAL_FIRST, EPHEMERAL_LAST = 0x10000, 0xFFFFFFFF


class ServiceHost:
    """The context of one service, and its life."""

    def __init__(
        self, runtime: Runtime, endpoints: Endpoints, node_ids: Sequence[Eid], spec: ServiceSpec, service: Service,
        state_dir: Path,
    ) -> None:  # fmt: skip
        self.node_id = node_ids[0]
        self.state_dir = state_dir
        self.service = service
        self._node_ids = frozenset(node_ids)
        self._runtime = runtime
        self._endpoints = endpoints
        self._spec = spec
        self._tasks = TaskOwner(self._task_failed)

    # ---- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the service and hand it its endpoints. Raises: TumplineError with the remedy."""
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._runtime.services[self.service.name] = self.service
        await self.service.start(self)
        if self._spec.registers:
            self.register()

    async def stop(self) -> None:
        """Stop the service; what it was handed and did not answer is handed over again at the next start."""
        await self.service.stop()
        await self._tasks.stop()

    def _task_failed(self, name: str, error: BaseException) -> None:
        self.notice("task_failed", task=name, error=str(error) or type(error).__name__)

    # ---- endpoints ----------------------------------------------------------------------------------------------------

    def register(self, demux: str = "") -> None:
        for each in [demux] if demux else self._own_demuxes():
            self._endpoints.take(each, self.service.name)
            confirms = isinstance(self.service, Confirming)
            self._runtime.machine.register(self.service.name, each, self._runtime.now(), confirms=confirms)
        self._runtime.turn()

    def unregister(self, demux: str = "") -> None:
        # What it has answered counts, though the machine has not heard of it yet.
        self._runtime.take_answers()
        for each in [demux] if demux else self._own_demuxes():
            if self._endpoints.give_back(each, self.service.name):
                self._runtime.machine.unregister(self.service.name, self._runtime.now(), each)
        self._runtime.turn()

    def register_records(self, code: int) -> None:
        assert isinstance(self.service, Administering), "who registers for records can take them"
        self._runtime.machine.register_records(code, self.service.name)

    def _own_demuxes(self) -> list[str]:
        """One for each scheme among the node's IDs: a demux is text under dtn, a service number under ipn."""
        found = []
        if self._spec.demux and any(eid.scheme == 1 for eid in self._node_ids):
            found.append(self._spec.demux)
        if self._spec.ipn_service is not None and any(eid.scheme == 2 for eid in self._node_ids):
            found.append(str(self._spec.ipn_service))
        return found

    def demux_for(self, name: str) -> str:
        if name != self._spec.name and name != self._spec.demux:
            raise ConfigError(f"the service {self._spec.name} asked for the endpoint of {name!r}")
        if self.node_id.scheme == 2:
            return str(self._spec.ipn_service)
        return self._spec.demux

    def new_demux(self, prefix: str) -> str:
        while True:
            if self.node_id.scheme == 2:
                demux = str(EPHEMERAL_FIRST + secrets.randbelow(EPHEMERAL_LAST - EPHEMERAL_FIRST + 1))
            else:
                demux = f"{prefix}-{secrets.token_hex(4)}"
            if not self._endpoints.is_taken(demux):
                return demux

    def is_local(self, eid: Eid) -> bool:
        return eid.node in self._node_ids

    # ---- ADUs ---------------------------------------------------------------------------------------------------------

    def send(self, adu: Adu) -> asyncio.Future[str]:
        return first_of(self._runtime.originate([adu]))

    def send_many(self, adus: Sequence[Adu]) -> asyncio.Future[list[str]]:
        return self._runtime.originate(adus)

    async def room(self, adus: Sequence[Adu], most_s: float) -> int:
        return await self._runtime.room(adus, most_s)

    def done(self, answers: Sequence[tuple[int, Outcome]]) -> None:
        self._runtime.answer(self.service.name, answers)

    def failed(self, seq: int, retry_s: float) -> None:
        self._runtime.answer_failed(self.service.name, seq, retry_s)

    def read_payload(self, payload: Payload, offset: int, length: int) -> bytes:
        return read_range(payload, offset, max(0, min(length, payload.length - offset)))

    def pieces(self, payload: Payload, offset: int = 0) -> Iterator[bytes | memoryview]:
        return pieces(payload, offset)

    def writer(self) -> PayloadWriter:
        return self._runtime.store.writer()

    def held_octets(self) -> int:
        return self._runtime.machine.held_octets

    # ---- records ------------------------------------------------------------------------------------------------------

    async def get_state(self, prefix: str = "") -> dict[str, bytes]:
        records: dict[str, bytes] = (await self._runtime.ask([GetState(self.service.name, prefix)]))[0]
        return records

    async def put_state(self, items: Mapping[str, bytes | None]) -> None:
        await self._runtime.ask([PutState(self.service.name, key, value) for key, value in items.items()])

    # ---- the rest -----------------------------------------------------------------------------------------------------

    def notice(self, name: str, **fields: Any) -> None:
        self._runtime.perform(Notice(name, {"service": self.service.name, **fields}))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._tasks.start(work, f"{self.service.name}: {name}")

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback)

    def now(self) -> float:
        return self._runtime.now()

    def dtn_ms(self) -> int:
        return dtn_now_ms()


def first_of(batch: asyncio.Future[list[str]]) -> asyncio.Future[str]:
    """The only identity of a batch of one, as a future of its own."""
    single: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def hand_on(done: asyncio.Future[list[str]]) -> None:
        error = done.exception() if not done.cancelled() else RefusedError("the agent is stopping")
        if single.done():
            return
        if error is None:
            single.set_result(done.result()[0])
        else:
            single.set_exception(error)

    batch.add_done_callback(hand_on)
    return single
