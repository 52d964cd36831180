"""Takes every ADU, counts it, and looks whether it is what a source sent: in order, complete, unharmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tumpline.machines.contract import Octets
from tumpline.machines.effects import Delivery
from tumpline.node.services import _numbered
from tumpline.node.services._api import NOTHING, ServiceContext, ServiceSpec

DEMUX = "sink"
IPN_SERVICE = 9  # after the discard port (RFC 863)
MAX_AHEAD = 100_000  # numbers after a gap that are remembered; then the gap is taken as lost
MAX_RUNS = 1024  # of sources that are remembered for `verify`; the eldest is forgotten


class SinkConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the sink looks at what comes."""

    verify: bool = False
    """Compare every payload with what `tumpline source` sends, and look for gaps and doubles."""


class SinkReport(msgspec.Struct):
    """What came since the start, or since the last reset."""

    bundles: int
    octets: int
    first_s: float | None
    """Seconds since the first ADU came; null before it."""
    last_s: float | None
    """Seconds since the last ADU came."""
    bundles_per_s: float | None
    """From the first ADU to the last; null with fewer than two."""
    octets_per_s: float | None
    verified: int
    """ADUs that were exactly what a source sent (with verify)."""
    damaged: int
    duplicates: int
    missing: int
    """Numbers below the highest that have not come (yet)."""
    misordered: int


class _Run:
    """What came of one source's numbers. Contiguous numbers take no room; `ahead` holds those after a gap."""

    def __init__(self) -> None:
        self.next = 0
        self.highest = -1
        self.ahead: set[int] = set()
        self.lost = 0

    def take(self, number: int) -> bool:
        """Whether the number is new."""
        if number < self.next or number in self.ahead:
            return False
        self.highest = max(self.highest, number)
        self.ahead.add(number)
        if len(self.ahead) > MAX_AHEAD:
            first = min(self.ahead)
            self.lost += first - self.next
            self.next = first
        while self.next in self.ahead:
            self.ahead.remove(self.next)
            self.next += 1
        return True

    @property
    def missing(self) -> int:
        return self.lost + self.highest + 1 - self.next - len(self.ahead)


class Sink:
    """The sink service."""

    name = "sink"

    def __init__(self, config: SinkConfig) -> None:
        self._verify = config.verify
        self.reset()

    def reset(self) -> None:
        """Count anew."""
        self.bundles = self.octets = 0
        self.verified = self.damaged = self.duplicates = self.misordered = 0
        self._first = self._last = 0.0
        self._first_batch = (0, 0)
        self._runs: dict[bytes, _Run] = {}

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx

    async def stop(self) -> None:
        """Nothing is held."""

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        octets = 0
        for delivery in deliveries:
            octets += delivery.payload.length
        self._last = self._ctx.now()
        if not self.bundles:
            self._first = self._last
            self._first_batch = (len(deliveries), octets)
        self.bundles += len(deliveries)
        self.octets += octets
        if self._verify:
            for delivery in deliveries:
                self._look_at(delivery)
        self._ctx.done([(delivery.seq, NOTHING) for delivery in deliveries])

    def _look_at(self, delivery: Delivery) -> None:
        payload = delivery.payload
        found = _numbered.parse([payload.data] if isinstance(payload, Octets) else self._ctx.pieces(payload))
        if found is None:
            self.damaged += 1
            return
        run_id, number = found
        run = self._run(run_id)
        self.misordered += number < run.highest
        if run.take(number):
            self.verified += 1
        else:
            self.duplicates += 1

    def _run(self, run_id: bytes) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            if len(self._runs) >= MAX_RUNS:
                del self._runs[next(iter(self._runs))]
            run = self._runs[run_id] = _Run()
        return run

    def report(self) -> SinkReport:
        now = self._ctx.now()
        span_s = self._last - self._first
        bundles, octets = self.bundles - self._first_batch[0], self.octets - self._first_batch[1]
        return SinkReport(
            bundles=self.bundles,
            octets=self.octets,
            first_s=now - self._first if self.bundles else None,
            last_s=now - self._last if self.bundles else None,
            # What came at the very beginning came before the span that is measured.
            bundles_per_s=bundles / span_s if span_s > 0 else None,
            octets_per_s=octets / span_s if span_s > 0 else None,
            verified=self.verified,
            damaged=self.damaged,
            duplicates=self.duplicates,
            missing=sum(run.missing for run in self._runs.values()),
            misordered=self.misordered,
        )

    def describe(self) -> dict[str, Any]:
        return {"bundles": self.bundles, "octets": self.octets}


SPEC = ServiceSpec(
    name="sink",
    summary="takes and counts every ADU",
    config=SinkConfig,
    open=lambda config: Sink(config),
    demux=DEMUX,
    ipn_service=IPN_SERVICE,
)
