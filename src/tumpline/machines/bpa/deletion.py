"""Bundle deletion and expiry (RFC 9171 §5.5, §5.10, §5.12), and the end of remembered identities."""

from __future__ import annotations

from collections.abc import Callable

from tumpline.machines.bpa.clock import UNKNOWN_BELOW_MS
from tumpline.machines.bpa.core import Core, retain_payload
from tumpline.machines.bpa.queues import Entry, Queues
from tumpline.machines.bpa.reports import DELETED, DELETION_REASONS, Reports
from tumpline.machines.bpa.rewrite import decode_stored
from tumpline.machines.contract import StoredBundle
from tumpline.machines.storage import Expired, Forget, Get, NextExpiry, Results
from tumpline.wire.bundle7 import PrimaryBlock, ReasonCode

# Expired bundles are dealt with a page at a time, and whatever comes meanwhile waits for one page at most: a few
# milliseconds of work, for the bundles as for the octets. Large ones cost their octets: these are read from the store's
# tables with the bundle, or freed in memory with it.
PAGE_BUNDLES = 128
PAGE_OCTETS = 1 << 20
# Between two pages there is at least this pause, and one as long as the page took: so half of the store's time, on
# whatever machine and disk, is left to others.
PAGE_PAUSE_S = 0.005
# A look for expired bundles may come this late, and not more often: it is one store query.
GRAIN_S = 0.01


class Deletion:
    """Deletes bundles for a reason."""

    def __init__(self, core: Core, queues: Queues, reports: Reports) -> None:
        self._core = core
        self._queues = queues
        self._reports = reports
        self.on_deleted: Callable[[list[Entry]], None] = lambda _: None

    def delete(self, entries: list[Entry], reason: int, now: float) -> None:
        """RFC 9171 §5.10. What is on its way to a neighbour may still get there."""
        if not entries:
            return
        name = DELETION_REASONS[reason][0]
        self._core.counters[f"deleted_{name}"] += len(entries)
        if self._reports.enabled:
            for bundle, head, _, _ in entries:
                primary = (head or decode_stored(bundle.head)).primary
                self._reports.tell(DELETED, reason, primary, bundle.payload.length, now)
        self._core.notice("bundles_deleted", reason=name, bundles=len(entries), first_seq=entries[0][0].seq)
        self._queues.remove(entries)
        self.on_deleted(entries)

    def cancel(self, seq: int, now: float) -> None:  # noqa: ARG002
        """RFC 9171 §5.12: the operator wants it gone."""
        self._core.transact([Get([seq])], None, self._found)

    def _found(self, _: None, results: Results, now: float) -> None:
        self.delete(self.entries(results[0]), ReasonCode.TRANSMISSION_CANCELED, now)

    def entries(self, bundles: list[StoredBundle]) -> list[Entry]:
        """Those not on their way out already, as entries."""
        queues = self._queues
        return [queues.as_entry(bundle) for bundle in bundles if not queues.is_doomed(bundle.seq)]


class Expiry:
    """Ends lifetimes on time, a page at a time."""

    def __init__(self, core: Core, queues: Queues, deletion: Deletion) -> None:
        self._core = core
        self._queues = queues
        self._deletion = deletion
        self._looking = False

    def start(self, earliest_ms: int | None, now: float) -> None:
        if earliest_ms is not None:
            self.at(earliest_ms, now)
        if self._core.identities.counts:
            self.identity_kept(now)

    def clock_changed(self) -> None:
        """Deadlines have moved."""
        self._core.transact([NextExpiry()], None, self._moved)

    def _moved(self, _: None, results: Results, now: float) -> None:
        if results[0] is not None:
            self.at(results[0], now)

    # ---- bundles ----------------------------------------------------------------------------------------------------

    def at(self, earliest_ms: int, now: float, pause_s: float = GRAIN_S) -> None:
        """Something expires then; the look for it comes after a pause."""
        when = max(self._core.clock.monotonic(earliest_ms) + GRAIN_S, now + pause_s)
        self._core.timers.set_earlier("expiry", when, self._look)

    def _look(self, now: float) -> None:
        if not self._looking:
            self._looking = True
            self._core.transact([Expired(self._core.clock.ms(now), PAGE_BUNDLES, PAGE_OCTETS)], now, self._found)

    def _found(self, began: float, results: Results, now: float) -> None:
        page: list[StoredBundle] = results[0]
        entries = self._deletion.entries([bundle for bundle in page if not self._came_without_clock(bundle)])
        now_ms = self._core.clock.ms(now)
        pared = [entry for entry in entries if self._outlives(entry, now_ms)]
        over = [entry for entry in entries if not self._outlives(entry, now_ms)] if pared else entries
        self._deletion.delete(over, ReasonCode.LIFETIME_EXPIRED, now)
        self._deletion.delete(pared, ReasonCode.TRAFFIC_PARED, now)
        self._keep([bundle for bundle in page if self._came_without_clock(bundle)], now)
        # Answered after the removals, which were submitted before.
        self._core.transact([NextExpiry()], began, self._page_done)

    def _page_done(self, began: float, results: Results, now: float) -> None:
        self._looking = False
        if results[0] is not None:
            self.at(results[0], now, pause_s=max(PAGE_PAUSE_S, now - began))

    def _outlives(self, entry: Entry, now_ms: int) -> bool:
        """RFC 9171 §5.5: whether the lifetime that ended was imposed by this node, not the bundle's own."""
        if self._core.config.max_lifetime_ms is None:
            return False
        bundle, head, _, _ = entry
        primary: PrimaryBlock = (head or decode_stored(bundle.head)).primary
        if primary.created_ms and self._core.clock.known:
            return primary.created_ms + primary.lifetime_ms > now_ms
        return bundle.received_ms - bundle.age_ms + primary.lifetime_ms > now_ms

    # ---- bundles that were stored before the time of day was known -------------------------------------------------

    def _came_without_clock(self, bundle: StoredBundle) -> bool:
        return self._core.clock.known and bundle.received_ms < UNKNOWN_BELOW_MS

    def _keep(self, bundles: list[StoredBundle], now: float) -> None:
        """Their times are on the scale of a clock that was not known; put them on the one that is, granting the stay so
        far. They lose their place in the queue, nothing else."""
        now_ms = self._core.clock.ms(now)
        entries = self._deletion.entries(bundles)
        moved: list[Entry] = []
        for bundle, head, queue, octets in entries:
            self._core.last_seq = seq = self._core.last_seq + 1
            left_ms = bundle.expires_ms - bundle.received_ms
            retain_payload(bundle.payload)
            later = bundle._replace(seq=seq, received_ms=now_ms, expires_ms=now_ms + left_ms)
            moved.append((later, head, queue, octets))
        if moved:
            self._core.quota.held += sum(entry[3] for entry in moved)
            self._queues.replace(entries, moved, self._kept)

    def _kept(self, context: tuple[list[Entry], list[Entry]], results: Results, now: float) -> None:
        entries, moved = context
        self._queues.removed(entries, results, now)
        self._queues.added(moved, results[len(entries) :], now)

    # ---- remembered identities --------------------------------------------------------------------------------------

    def identity_kept(self, now: float) -> None:
        """There is something to forget some day."""
        self._core.timers.set_earlier("forget", now + self._core.config.forget_s, self._forget)

    def _forget(self, now: float) -> None:
        self._core.transact([Forget(self._core.clock.ms(now))], None, self._forgotten)

    def _forgotten(self, _: None, results: Results, now: float) -> None:
        self._core.identities.forgotten(results[0])
        if self._core.identities.counts:
            self.identity_kept(now)
