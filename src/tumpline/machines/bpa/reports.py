"""Bundle status reports (RFC 9171 §5.1, §6.1.1): made when asked for and allowed, and told of when received."""

from __future__ import annotations

from collections.abc import Callable

from tumpline.errors import MalformedError
from tumpline.machines.bpa.core import Core
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Administer, AdminRecord, Adu, Delivery
from tumpline.wire.admin import Assertion, StatusReport, UnknownRecord, decode_admin_untrusted, encode_admin
from tumpline.wire.bundle7 import BundleFlags, PrimaryBlock, ReasonCode

# Why this node deletes bundles, and when (RFC 9171 §5.10, table 1).
DELETION_REASONS: dict[int, tuple[str, str]] = {
    ReasonCode.LIFETIME_EXPIRED: ("lifetime_expired", "its lifetime had ended, on arrival or while it waited"),
    ReasonCode.TRANSMISSION_CANCELED: ("transmission_canceled", "the operator removed it"),
    ReasonCode.DESTINATION_UNAVAILABLE: (
        "destination_unavailable",
        "nobody can ever take it: the null endpoint, ipn:!, this node's administrative endpoint without a record, or a rule",
    ),
    ReasonCode.NO_ROUTE: ("no_route", "every neighbour that leads to its destination said never to send it again"),
    ReasonCode.BLOCK_UNINTELLIGIBLE: ("block_unintelligible", "it does not follow the format, or a CRC does not match"),
    ReasonCode.HOP_LIMIT_EXCEEDED: ("hop_limit_exceeded", "it has made, or would now make, more hops than it allows"),
    ReasonCode.TRAFFIC_PARED: ("traffic_pared", "it stayed longer than this node keeps bundles"),
    ReasonCode.BLOCK_UNSUPPORTED: ("block_unsupported", "it has an unknown block that says to delete the bundle then"),
}

_ASSERTIONS = ("received", "forwarded", "delivered", "deleted")
RECEIVED, FORWARDED, DELIVERED, DELETED = range(4)
_REQUESTS = (
    BundleFlags.REPORT_RECEPTION,
    BundleFlags.REPORT_FORWARDING,
    BundleFlags.REPORT_DELIVERY,
    BundleFlags.REPORT_DELETION,
)


Handler = Callable[[AdminRecord, float], None]


class Reports:
    """Makes status reports, at a bounded rate; they leave with the next `take`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._policy = core.config.reports
        self._tokens = float(self._policy.burst)
        self._refilled = 0.0
        self._waiting: list[Adu] = []
        self.enabled = self._policy.enabled

    def tell(self, what: int, reason: int, primary: PrimaryBlock, payload_length: int, now: float) -> None:
        """Report that the bundle was received, forwarded, delivered or deleted, if it asks for it."""
        if self.enabled and primary.flags & _REQUESTS[what]:
            self.report(what, reason, primary, payload_length, now)

    def report(self, what: int, reason: int, primary: PrimaryBlock, payload_length: int, now: float) -> None:
        """The same, asked for by a block that cannot be processed (RFC 9171 §5.6 Step 4)."""
        # RFC 9171 §6.1.1, §4.2.3: never about administrative records or anonymous bundles; and nobody reads at dtn:none.
        if not self.enabled or primary.flags & BundleFlags.ADMIN or primary.report_to.is_null or primary.source.is_null:
            return
        if not self._spend(now):
            self._core.counters["reports_suppressed"] += 1
            return
        self._core.counters["reports_made"] += 1
        record = self._record(what, reason, primary, payload_length, now)
        payload = Octets(encode_admin(record))
        self._waiting.append(Adu(primary.report_to, payload, "", self._policy.lifetime_ms, admin=True))

    def take(self) -> list[Adu]:
        """The reports made since the last call."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def _record(self, what: int, reason: int, primary: PrimaryBlock, payload_length: int, now: float) -> StatusReport:
        # RFC 9171 §6.1.1: the time only where the bundle asks for it; §4.2.6: zero where it is not known.
        time_ms: int | None = None
        if primary.flags & BundleFlags.STATUS_TIME:
            time_ms = self._core.clock.ms(now) if self._core.clock.known else 0
        received, forwarded, delivered, deleted = (
            Assertion(True, time_ms) if each == what else Assertion() for each in range(len(_ASSERTIONS))
        )
        return StatusReport(
            received,
            forwarded,
            delivered,
            deleted,
            reason,
            primary.source,
            primary.created_ms,
            primary.sequence,
            primary.fragment_offset,
            None if primary.fragment_offset is None else payload_length,
        )

    def _spend(self, now: float) -> bool:
        """One token of the bucket, if there is one."""
        earned = max(0.0, now - self._refilled) * self._policy.per_s
        self._tokens = min(float(self._policy.burst), self._tokens + earned)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class AdminRecords:
    """What this node does with administrative records that come for it: one handler a kind.

    A kind is the class that wire.admin decodes it to, or the type code of one that nobody decodes.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._handlers: dict[type | int, Handler] = {StatusReport: self._status_report}

    def register(self, kind: type | int, handler: Handler) -> None:
        """Call `handler` for each record of this kind, once the bundle that brought it is committed as delivered."""
        self._handlers[kind] = handler

    def register_service(self, kind: type | int, service: str) -> None:
        """Hand records of this kind to a service, by Administer."""
        self._handlers[kind] = lambda item, _: self._core.effects.append(Administer(service, item))

    def handle(self, delivery: Delivery, flags: int, expires_ms: int, now: float) -> None:
        """Act on a record. What cannot be read is told and dropped."""
        payload, source = delivery.payload, delivery.source
        try:
            record = decode_admin_untrusted(payload.data) if isinstance(payload, Octets) else None
        except MalformedError as error:
            self._core.notice("admin_record_malformed", source=str(source), error=str(error))
            return
        kind = record.code if isinstance(record, UnknownRecord) else type(record)
        handler = self._handlers.get(kind)
        if handler is None:
            self._core.notice("admin_record_ignored", source=str(source), kind=str(kind))
            return
        wants_ack = bool(flags & BundleFlags.ACK_REQUESTED)
        created = delivery.created_ms, delivery.sequence
        handler(AdminRecord(source, delivery.destination, *created, expires_ms, wants_ack, record), now)

    def _status_report(self, item: AdminRecord, _: float) -> None:
        report: StatusReport = item.record
        self._core.counters["status_reports_received"] += 1
        asserted = {name: getattr(report, name) for name in _ASSERTIONS}
        self._core.notice(
            "status_report_received",
            reporter=str(item.source),
            status=[name for name, (is_so, _) in asserted.items() if is_so],
            times_ms={name: time_ms for name, (is_so, time_ms) in asserted.items() if is_so},
            reason=report.reason,
            source=str(report.source),
            created_ms=report.created_ms,
            sequence=report.sequence,
            fragment_offset=report.fragment_offset,
            fragment_length=report.fragment_length,
        )
