"""The seam of services. One module here = one service; it ends with SPEC.

A service is an application inside the agent: it has demultiplexers (RFC 9171 §3.2) below the node ID, is handed the
ADUs that come for them, and sends ADUs of its own. All calls run on the event loop's thread; none blocks.

"Delivered" means that what a service wants kept (`Outcome`) and the identity of the bundle were committed together.
A service that acts on the world outside (a file, a socket) writes its intent into the Outcome and performs it again
after a crash, or says in its documentation that it delivers at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tumpline.drivers.stores._api import PayloadWriter
from tumpline.machines.contract import Payload
from tumpline.machines.effects import AdminRecord, Adu, Delivery, Outcome
from tumpline.wire.eid import Eid

NOTHING = Outcome()
"""The outcome of a service that keeps nothing."""


class ServiceContext(Protocol):
    """What the node is to one service."""

    node_id: Eid
    state_dir: Path  # this service's own directory; it exists, mode 0700

    def send(self, adu: Adu) -> asyncio.Future[str]:
        """Originate one ADU. The future ends with the bundle's identity (text) once the bundle is stored durably, or
        raises RefusedError (no such source, longer than the store), NoRoomError (quota reached: see `room`) or StorageError
        (full disk). A FileRange payload's handle passes to the node with this call, except when it is refused. ADUs sent in
        one turn of the loop are stored in one transaction."""

    def send_many(self, adus: Sequence[Adu]) -> asyncio.Future[list[str]]:
        """As `send`, for many in order with one future: all identities, or the error of the first refusal (those that were
        accepted stay stored; NoRoomError tells which were not)."""

    async def room(self, adus: Sequence[Adu], most_s: float) -> int:
        """After NoRoomError: wait until there is room for the first of these, `most_s` at most; how many find room then,
        perhaps 0. Senders wait in line. Raises: RefusedError (too many wait)."""

    def done(self, answers: Sequence[tuple[int, Outcome]]) -> None:
        """These deliveries (by their `seq`) are done; commit each outcome with the bundle's identity. The service must
        not use their payloads after this call. Raises nothing: a failed commit delivers the ADU again."""

    def failed(self, seq: int, retry_s: float) -> None:
        """This delivery did not work out now: hand it over again in `retry_s` seconds. Nothing of it was kept."""

    def read_payload(self, payload: Payload, offset: int, length: int) -> bytes:
        """Octets of a payload (fewer at its end). Raises: StorageError."""

    def pieces(self, payload: Payload, offset: int = 0) -> Iterator[bytes | memoryview]:
        """All octets from `offset` on, piece by piece; each is good until the payload is. Raises: StorageError."""

    def writer(self) -> PayloadWriter:
        """A place for a large payload of our own to be written to. Raises: StorageError."""

    def held_octets(self) -> int:
        """What the node's store holds, or has been given to hold: all encoded bundles together."""

    async def get_state(self, prefix: str = "") -> dict[str, bytes]:
        """This service's records whose key starts with `prefix`."""

    async def put_state(self, items: Mapping[str, bytes | None]) -> None:
        """Write (None: erase) records of this service in one durable transaction; returns when that is done.
        Raises: StorageError."""

    def register(self, demux: str = "") -> None:
        """From now until `unregister`, hand this service the ADUs for `demux` ("": the demuxes that its SPEC names).
        Those that waited are delivered at once. Raises: RefusedError if another service has it."""

    def unregister(self, demux: str = "") -> None:
        """No more ADUs for `demux`; those that wait stay stored. Deliveries that are out stay out: answer them as ever
        (`failed` puts one back among those that wait). Idempotent."""

    def register_records(self, code: int) -> None:
        """Hand this service, which is Administering, each administrative record of that type that comes for the node."""

    def demux_for(self, name: str) -> str:
        """The demux under which this node has the service of that name, in the scheme of the node ID: its SPEC's
        `demux` for dtn, `ipn_service` in decimal for ipn."""

    def new_demux(self, prefix: str) -> str:
        """A demux that nobody on this node uses, in the scheme of the node ID: `prefix-` and random hex digits for dtn,
        a random large service number for ipn. It is not registered yet."""

    def is_local(self, eid: Eid) -> bool:
        """Whether the EID is below one of this node's own node IDs."""

    def notice(self, name: str, **fields: Any) -> None:
        """Something worth telling (log, event stream): snake_case, past tense."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` as a task that the node owns: it is cancelled and awaited when the service stops, and an error in
        it is told as a notice."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back on the loop after so many seconds."""

    def now(self) -> float:
        """Monotonic seconds."""

    def dtn_ms(self) -> int:
        """DTN time in milliseconds (RFC 9171 §4.2.6)."""


class Service(Protocol):
    """A service in use. Its demuxes are registered by the runtime before `start` ends; ADUs that came while the agent
    was down are delivered right after it."""

    name: str

    async def start(self, ctx: ServiceContext) -> None:
        """Take up what the last run left. Raises: TumplineError with the remedy (directory not writable ...)."""

    async def stop(self) -> None:
        """Free everything. Deliveries not answered by now are handed over again at the next start."""

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """ADUs came, in order. Each is answered, now or later, by `ctx.done` or `ctx.failed`; the runtime hands over a
        bounded number before the first answer comes. Large payloads' handles stay valid until the answer."""

    def describe(self) -> dict[str, Any]:
        """Snapshot for people: counters, what is under way."""


@runtime_checkable
class Confirming(Protocol):
    """A service that wants to know when its answers are kept."""

    def committed(self, seqs: Sequence[int]) -> None:
        """What was answered to these deliveries is committed: they will not come again. Does not block."""


@runtime_checkable
class Administering(Protocol):
    """A service that takes administrative records (RFC 9171 §6) of types that it registers by `register_records`."""

    def administer(self, record: AdminRecord) -> None:
        """A record came, and will not come again. Does not block."""


class ServiceSpec(NamedTuple):
    """The last line of a service's module: `SPEC = ServiceSpec(...)`."""

    name: str
    summary: str
    config: type[Any]  # a msgspec.Struct (kw_only, forbid_unknown_fields), every field documented
    open: Callable[[Any], Service]  # heavy imports happen inside
    demux: str = ""  # under dtn node IDs; "" for a service without one of its own
    ipn_service: int | None = None  # under ipn node IDs
    registers: bool = True  # the runtime registers these at start; False: the service does, when it is ready for ADUs
    always: bool = False  # runs without a section in the configuration


__all__ = [
    "NOTHING",
    "AdminRecord",
    "Administering",
    "Adu",
    "Confirming",
    "Delivery",
    "Outcome",
    "Payload",
    "Service",
    "ServiceContext",
    "ServiceSpec",
]
