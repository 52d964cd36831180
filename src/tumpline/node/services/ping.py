"""Measures round trips: numbered, time-stamped ADUs to an echo service, from an endpoint of their own."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import struct
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tumpline.errors import MalformedError, NoAnswerError, RefusedError
from tumpline.machines.effects import Adu, Delivery
from tumpline.node.services._api import NOTHING, ServiceContext, ServiceSpec
from tumpline.node.services._patience import send
from tumpline.node.services._payload import as_payload
from tumpline.wire.eid import Eid

# Magic, this run's nonce, number of the request, time of sending (nanoseconds of our clock, informative).
_HEADER = struct.Struct("!8s8sIQ")
_MAGIC = b"tl-ping\n"
MIN_SIZE_OCTETS = _HEADER.size
MAX_SIZE_OCTETS = 1 << 30
MAX_COUNT = 1_000_000  # what one run remembers: about 100 octets a request
MAX_RUNS = 64  # at a time; each holds an endpoint
MAX_EVENTS_WAITING = 1000  # a client that does not read stops its own ping
# A reply that comes later than this is of no use to anyone, so neither request nor reply shall be kept longer.
MIN_LIFETIME_MS = 60_000


class PingConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Pings have nothing to configure."""


class PingRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to ping, and how."""

    to: str
    """EID of an echo service."""
    count: int = 0
    """Requests to send; 0: until the client goes away."""
    interval_s: float = 1.0
    """Seconds from one request to the next."""
    size: int = 64
    """Octets of payload (28 to 1 GiB)."""
    timeout_s: float = 10.0
    """Seconds to wait for replies after the last request."""


class PingSent(msgspec.Struct, tag="sent", tag_field="event"):
    """A request is stored and on its way."""

    number: int
    bundle: str


class PingWaiting(msgspec.Struct, tag="waiting", tag_field="event"):
    """There is no room in the store for the next request; it goes as soon as there is."""

    number: int
    reason: str


class PingReply(msgspec.Struct, tag="reply", tag_field="event"):
    """A request came back."""

    number: int
    rtt_ms: float
    octets: int
    source: str
    duplicate: bool


class PingSummary(msgspec.Struct, tag="summary", tag_field="event"):
    """The last event. Times are null when nothing came."""

    to: str
    sent: int
    received: int
    duplicates: int
    loss: float
    """Share of the requests that stayed unanswered, 0 to 1."""
    min_ms: float | None
    avg_ms: float | None
    median_ms: float | None
    max_ms: float | None
    exit_code: int
    """0: at least one reply; 3: none in time."""


PingEvent = PingSent | PingWaiting | PingReply | PingSummary


@dataclass(slots=True)
class _Run:
    """One ping under way."""

    request: PingRequest
    destination: Eid
    demux: str
    nonce: bytes
    events: asyncio.Queue[PingEvent | Exception | None] = field(
        default_factory=lambda: asyncio.Queue(MAX_EVENTS_WAITING)
    )
    sent_at: list[float] = field(default_factory=list)  # by number - 1, monotonic seconds
    rtts_ms: dict[int, float] = field(default_factory=dict)  # by number
    duplicates: int = 0
    all_answered: asyncio.Event = field(default_factory=asyncio.Event)

    def payload(self, number: int, now: float) -> bytes:
        header = _HEADER.pack(_MAGIC, self.nonce, number, int(now * 1e9))
        return header.ljust(self.request.size, b".")

    def tell(self, event: PingEvent | None) -> None:
        """Tell a client that may be slow: what does not fit is only counted. None, the end, always fits."""
        if self.events.full():
            if event is not None:
                return
            self.events.get_nowait()
        self.events.put_nowait(event)

    def note_answered(self) -> None:
        if len(self.rtts_ms) == self.request.count:
            self.all_answered.set()


class Ping:
    """All pings that this node's users run at the moment."""

    name = "ping"

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx

    async def stop(self) -> None:
        for run in self._runs.values():
            run.tell(None)

    async def run(self, request: PingRequest) -> AsyncGenerator[PingEvent, None]:
        """Ping, and tell what happens as it happens; the summary comes last. Closing the iterator ends it early.

        Raises: MalformedError (the request makes no sense), RefusedError (too many pings), StorageError."""
        run = self._open(request)
        sender = self._ctx.spawn(self._send_all(run), f"ping {request.to}")
        try:
            while (event := await run.events.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
            yield summary(run)
        finally:
            sender.cancel()
            self._runs.pop(run.demux, None)
            self._ctx.unregister(run.demux)

    def _open(self, request: PingRequest) -> _Run:
        destination = check(request)
        if len(self._runs) >= MAX_RUNS:
            raise RefusedError(f"{MAX_RUNS} pings run already on this node")
        run = _Run(request, destination, self._ctx.new_demux("ping"), secrets.token_bytes(8))
        self._ctx.register(run.demux)
        self._runs[run.demux] = run
        return run

    async def _send_all(self, run: _Run) -> None:
        try:
            for number in range(1, (run.request.count or MAX_COUNT) + 1):
                due = self._ctx.now() + run.request.interval_s
                await self._send(run, number)
                if number != run.request.count:
                    await asyncio.sleep(max(0.0, due - self._ctx.now()))
            run.note_answered()
            await asyncio.wait_for(run.all_answered.wait(), run.request.timeout_s)
        except (TimeoutError, NoAnswerError):
            pass  # the summary tells what is missing
        except Exception as error:
            await run.events.put(error)  # raised to whoever reads the events
        await run.events.put(None)

    async def _send(self, run: _Run, number: int) -> None:
        lifetime_ms = max(MIN_LIFETIME_MS, int(run.request.timeout_s * 2000))
        now = self._ctx.now()
        payload = as_payload(self._ctx, run.payload(number, now))
        run.sent_at.append(now)
        adu = Adu(run.destination, payload, source_demux=run.demux, lifetime_ms=lifetime_ms)

        def wait(reason: str) -> None:
            run.tell(PingWaiting(number, reason))
            run.sent_at[-1] = self._ctx.now()

        try:
            bundle = await send(self._ctx, adu, run.request.timeout_s, wait)
        except NoAnswerError:
            run.sent_at.pop()  # it never left
            raise
        await run.events.put(PingSent(number, bundle))

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        now = self._ctx.now()
        for delivery in deliveries:
            run = self._runs.get(delivery.destination.demux)
            if run is not None and not delivery.admin:
                self._take_reply(run, delivery, now)
        self._ctx.done([(delivery.seq, NOTHING) for delivery in deliveries])

    def _take_reply(self, run: _Run, delivery: Delivery, now: float) -> None:
        number = self._number_of(run, delivery)
        if number is None:
            return
        rtt_ms = (now - run.sent_at[number - 1]) * 1000
        duplicate = number in run.rtts_ms
        if duplicate:
            run.duplicates += 1
        else:
            run.rtts_ms[number] = rtt_ms
        reply = PingReply(number, rtt_ms, delivery.payload.length, str(delivery.source), duplicate)
        run.tell(reply)
        run.note_answered()

    def _number_of(self, run: _Run, delivery: Delivery) -> int | None:
        """The number of the request that came back, None if it is none of ours."""
        if delivery.payload.length != run.request.size:
            return None
        header = self._ctx.read_payload(delivery.payload, 0, _HEADER.size)
        magic, nonce, number, _ = _HEADER.unpack(header)
        ours = magic == _MAGIC and nonce == run.nonce and 1 <= number <= len(run.sent_at)
        return int(number) if ours else None

    def describe(self) -> dict[str, Any]:
        return {"running": [run.request.to for run in self._runs.values()]}


def check(request: PingRequest) -> Eid:
    """The destination of a request that makes sense. Raises: MalformedError that says what to write."""
    if not MIN_SIZE_OCTETS <= request.size <= MAX_SIZE_OCTETS:
        raise MalformedError(f"size {request.size}: write {MIN_SIZE_OCTETS} to {MAX_SIZE_OCTETS} octets")
    if not 0 <= request.count <= MAX_COUNT:
        raise MalformedError(f"count {request.count}: write 0 (no end) to {MAX_COUNT}")
    if not (0 <= request.interval_s <= 86_400 and 0 <= request.timeout_s <= 30 * 86_400):
        raise MalformedError("interval_s and timeout_s: write seconds, not below 0, at most a day and 30 days")
    destination = Eid.parse(request.to)
    if destination.is_null:
        raise MalformedError("nobody answers at the null endpoint: write the EID of an echo service")
    return destination


def summary(run: _Run) -> PingSummary:
    times = sorted(run.rtts_ms.values())
    sent = len(run.sent_at)
    return PingSummary(
        to=run.request.to,
        sent=sent,
        received=len(times),
        duplicates=run.duplicates,
        loss=1 - len(times) / sent if sent else 0.0,
        min_ms=times[0] if times else None,
        avg_ms=statistics.fmean(times) if times else None,
        median_ms=statistics.median(times) if times else None,
        max_ms=times[-1] if times else None,
        exit_code=0 if times else 3,
    )


SPEC = ServiceSpec(
    name="ping",
    summary="measures round trips to echo services",
    config=PingConfig,
    open=lambda _config: Ping(),
    always=True,
)
