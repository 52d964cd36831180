"""Shows the way of a bundle: asks every node for status reports (RFC 9171 §6.1.1), and prints those that come.

Nodes send reports only if they are configured to; most are not. So silence of a node says nothing about the bundle.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec

from tumpline.errors import MalformedError, RefusedError
from tumpline.machines.effects import Adu, Delivery
from tumpline.node.services._api import NOTHING, ServiceContext, ServiceSpec
from tumpline.node.services._patience import send
from tumpline.node.services._payload import as_payload
from tumpline.wire.admin import StatusReport, decode_admin_untrusted
from tumpline.wire.bundle7 import BundleFlags
from tumpline.wire.eid import Eid

MAX_RUNS = 64
MAX_SIZE_OCTETS = 1 << 30
MAX_REPORT_OCTETS = 4096  # a status report takes about 60
MAX_EVENTS_WAITING = 1000  # reports beyond are not told: a loop of nodes could send any number
_PAYLOAD = b"tumpline trace\n"
_FLAGS = (
    BundleFlags.STATUS_TIME
    | BundleFlags.REPORT_RECEPTION
    | BundleFlags.REPORT_FORWARDING
    | BundleFlags.REPORT_DELIVERY
    | BundleFlags.REPORT_DELETION
)


class TraceConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Traces have nothing to configure."""


class TraceRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whose way to show."""

    to: str
    """EID, best of an echo service."""
    timeout_s: float = 10.0
    size: int = 0
    """Octets of payload, by chance (at most 1 GiB). 0: a few words."""


class TraceSent(msgspec.Struct, tag="sent", tag_field="event"):
    """The bundle is on its way."""

    bundle: str


class TraceReport(msgspec.Struct, tag="reported", tag_field="event"):
    """A node says what it did with the bundle."""

    node: str
    did: list[str]
    """Of received, forwarded, delivered, deleted."""
    time_ms: int | None
    """DTN time of the first of these, by that node's clock; null if it gave none."""
    after_ms: float
    """Milliseconds from sending to the arrival of the report."""
    reason: int
    """Reason code (RFC 9171 §9.5)."""


class TraceDelivered(msgspec.Struct, tag="delivered", tag_field="event"):
    """It arrived: its destination's node says so, or the destination answered."""

    by: str
    after_ms: float


class TraceSummary(msgspec.Struct, tag="summary", tag_field="event"):
    """The last event."""

    to: str
    reports: int
    delivered: bool
    exit_code: int
    """0: it arrived; 3: nobody said so in time (it may have)."""


TraceEvent = TraceSent | TraceReport | TraceDelivered | TraceSummary


class _Run:
    """One trace under way."""

    def __init__(self, destination: Eid, began: float) -> None:
        self.destination = destination
        self.began = began
        self.events: asyncio.Queue[TraceReport | TraceDelivered] = asyncio.Queue(MAX_EVENTS_WAITING)

    def tell(self, event: TraceReport | TraceDelivered) -> None:
        if not self.events.full():
            self.events.put_nowait(event)


class Trace:
    """All traces that this node's users run at the moment."""

    name = "trace"

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx

    async def stop(self) -> None:
        """Traces belong to the requests that run them."""

    async def run(self, request: TraceRequest) -> AsyncGenerator[TraceEvent, None]:
        """Send one bundle and tell what is heard of it until it arrives or the time is over.

        Raises: MalformedError, RefusedError, StorageError, NoAnswerError (no room in the store for so long)."""
        destination = check(request)
        if len(self._runs) >= MAX_RUNS:
            raise RefusedError(f"{MAX_RUNS} traces run already on this node")
        demux = self._ctx.new_demux("trace")
        self._ctx.register(demux)
        run = self._runs[demux] = _Run(destination, self._ctx.now())
        try:
            run.began = self._ctx.now()
            yield TraceSent(await send(self._ctx, self._adu(run, demux, request), request.timeout_s, lambda _: None))
            reports = 0
            delivered = False
            async for event in self._heard(run, request.timeout_s):
                yield event
                reports += isinstance(event, TraceReport)
                delivered = isinstance(event, TraceDelivered)
            yield TraceSummary(request.to, reports, delivered, 0 if delivered else 3)
        finally:
            del self._runs[demux]
            self._ctx.unregister(demux)

    def _adu(self, run: _Run, demux: str, request: TraceRequest) -> Adu:
        return Adu(
            run.destination,
            as_payload(self._ctx, secrets.token_bytes(request.size) or _PAYLOAD),
            source_demux=demux,
            lifetime_ms=max(60_000, int(request.timeout_s * 2000)),
            report_to=self._ctx.node_id.with_demux(demux),
            report_flags=_FLAGS,
        )

    async def _heard(self, run: _Run, timeout_s: float) -> AsyncGenerator[TraceReport | TraceDelivered, None]:
        """Events until delivery is told, or the time is over."""
        while True:
            left = run.began + timeout_s - self._ctx.now()
            try:
                event = await asyncio.wait_for(run.events.get(), max(0.0, left))
            except TimeoutError:
                return
            yield event
            if isinstance(event, TraceDelivered):
                return

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            run = self._runs.get(delivery.destination.demux)
            if run is not None:
                self._hear(run, delivery)
        self._ctx.done([(delivery.seq, NOTHING) for delivery in deliveries])

    def _hear(self, run: _Run, delivery: Delivery) -> None:
        after_ms = (self._ctx.now() - run.began) * 1000
        if not delivery.admin:
            if delivery.source == run.destination:
                run.tell(TraceDelivered(str(delivery.source), after_ms))
            return
        try:
            record = decode_admin_untrusted(self._ctx.read_payload(delivery.payload, 0, MAX_REPORT_OCTETS))
        except MalformedError as error:
            self._ctx.notice("report_ignored", source=str(delivery.source), reason=str(error))
            return
        if isinstance(record, StatusReport) and record.source == delivery.destination:
            run.tell(_report(delivery, record, after_ms))
            if record.delivered[0]:
                run.tell(TraceDelivered(str(delivery.source), after_ms))

    def describe(self) -> dict[str, Any]:
        return {"running": [str(run.destination) for run in self._runs.values()]}


def _report(delivery: Delivery, record: StatusReport, after_ms: float) -> TraceReport:
    named = {
        "received": record.received,
        "forwarded": record.forwarded,
        "delivered": record.delivered,
        "deleted": record.deleted,
    }
    times = [time_ms for asserted, time_ms in named.values() if asserted and time_ms is not None]
    return TraceReport(
        node=str(delivery.source),
        did=[name for name, (asserted, _) in named.items() if asserted],
        time_ms=min(times, default=None),
        after_ms=after_ms,
        reason=record.reason,
    )


def check(request: TraceRequest) -> Eid:
    """The destination of a request that makes sense. Raises: MalformedError that says what to write."""
    if not 0 <= request.timeout_s <= 30 * 86_400:
        raise MalformedError("timeout_s: write seconds, at most 30 days")
    if not 0 <= request.size <= MAX_SIZE_OCTETS:
        raise MalformedError(f"size {request.size}: write 0 to {MAX_SIZE_OCTETS} octets")
    destination = Eid.parse(request.to)
    if destination.is_null:
        raise MalformedError("the null endpoint is nowhere: write the EID of an echo service")
    return destination


SPEC = ServiceSpec(
    name="trace",
    summary="shows a bundle's way by status reports",
    config=TraceConfig,
    open=lambda _config: Trace(),
    always=True,
)
