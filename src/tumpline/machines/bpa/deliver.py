"""Local bundle delivery (RFC 9171 §5.7): at most once. What a service makes of a bundle is committed together with the
bundle's identity and its removal, in one transaction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tumpline.errors import LocalProtocolError, MalformedError
from tumpline.machines.bpa.core import Core, release_payload
from tumpline.machines.bpa.originate import Origination, Sealed, octets_of
from tumpline.machines.bpa.queues import Consumer, Entry, Queue, Queues
from tumpline.machines.bpa.reports import DELIVERED, AdminRecords, Reports
from tumpline.machines.bpa.rewrite import decode_stored
from tumpline.machines.effects import Committed, Deliver, Delivery, Outcome
from tumpline.machines.storage import Add, Operation, PutState, Remember, Remove, Results
from tumpline.wire.bundle7 import BundleFlags, PrimaryBlock, ReasonCode
from tumpline.wire.eid import Eid

STALLED_RETRY_S = 1.0  # outcomes whose ADUs do not fit: looked at again then, or when octets were freed


class Service(Consumer):
    """A local application that takes ADUs."""

    def __init__(self, name: str, core: Core, queues: Queues) -> None:
        super().__init__(f"service:{name}", core)  # no node ID begins so: never mistaken for a neighbour
        self.service = name
        self.confirms = False  # it wants to know which of its answers are kept
        self.in_flight: dict[int, Entry] = {}
        self.octets = 0  # of those
        self._core = core
        self._queues = queues

    def pump(self, now: float) -> None:
        """Hand on what is ready, as far as the window allows, and read on."""
        deliveries: list[Delivery] = []
        ready, held = self.ready, self._queues.held
        while ready and len(self.in_flight) < self._most_bundles and self.octets < self._most_octets:
            entry = ready.popleft()
            self.ready_octets -= entry[3]
            seq = entry[0].seq
            if held.get(seq) is entry:
                self.in_flight[seq] = entry
                self.octets += entry[3]
                deliveries.append(_delivery(entry))
        if deliveries:
            self.hand_on(deliveries, now)
        self._queues.pull(self)

    def hand_on(self, deliveries: list[Delivery], _: float) -> None:
        self._core.effects.append(Deliver(self.service, deliveries))

    def answered(self, seq: int) -> Entry | None:
        """The service is done with it; None: it was not asked (or no longer)."""
        entry = self.in_flight.pop(seq, None)
        if entry is not None:
            self.octets -= entry[3]
        return entry


class Administration(Service):
    """The administrative endpoint (RFC 9171 §6): the machine's own."""

    def __init__(self, core: Core, queues: Queues, deliverer: Deliverer, records: AdminRecords) -> None:
        super().__init__("", core, queues)
        self._deliverer = deliverer
        self._records = records

    def hand_on(self, deliveries: list[Delivery], now: float) -> None:
        for delivery in deliveries:
            self._deliverer.on_committed[delivery.seq] = delivery, self.in_flight[delivery.seq]
        self._deliverer.delivered(self, [(delivery.seq, Outcome()) for delivery in deliveries], now)

    def committed(self, delivery: Delivery, entry: Entry, now: float) -> None:
        """It is known as delivered now: act on it, once."""
        if delivery.admin:
            self._records.handle(delivery, _primary(entry).flags, entry[0].expires_ms, now)
        else:
            self._core.notice("bundle_ignored", to=str(delivery.destination), source=str(delivery.source))


Answer = tuple[Outcome, Entry | None]  # None: the bundle expired or was removed meanwhile


class Commit(NamedTuple):
    """Answers of a service on their way into the store."""

    service: Service
    answers: list[Answer]
    made: list[Entry]  # bundles made of their ADUs
    gone: list[int]  # bundles that expired or were removed meanwhile: nobody will be handed these again either

    @property
    def entries(self) -> list[Entry]:
        """Bundles to remove."""
        return [entry for _, entry in self.answers if entry is not None]

    def operations(self) -> list[Operation]:
        operations: list[Operation] = [Add(entry[0]) for entry in self.made]
        removals: list[Operation] = []
        for outcome, entry in self.answers:
            for key, value in outcome.state:
                operations.append(PutState(self.service.service, key, value))
            if entry is None:
                continue
            removals.append(Remove(entry[0].seq))
            source = _primary(entry).source
            if not source.is_null:  # RFC 9171 §4.2.3: anonymous bundles have no identity
                operations.append(Remember(entry[0].adu_key, str(source), entry[0].expires_ms))
        return operations + removals

    def halves(self) -> tuple[Commit, Commit] | None:
        """What a service wrote stays together, and in order: a later record may replace an earlier one."""
        if self.made:
            return None
        writing = [answer for answer in self.answers if answer[0].state]
        plain = [answer for answer in self.answers if not answer[0].state]
        middle = 0 if writing else len(plain) // 2
        parts = plain[:middle] or writing, plain[middle:]
        return (
            (Commit(self.service, parts[0], [], self.gone), Commit(self.service, parts[1], [], []))
            if all(parts)
            else None
        )


class Deliverer:
    """Services by name, the endpoints they serve, and the commits of what they did."""

    def __init__(self, core: Core, queues: Queues, origination: Origination, reports: Reports) -> None:
        self._core = core
        self._queues = queues
        self._origination = origination
        self._reports = reports
        self.services: dict[str, Service] = {}
        self.endpoints: dict[Eid, Service] = {}
        self._stalled: deque[tuple[Service, int, Outcome]] = deque()  # bounded by the windows of the services
        self.records = AdminRecords(core)
        self.administration = Administration(core, queues, self, self.records)
        self.on_committed: dict[int, tuple[Delivery, Entry]] = {}
        self.on_identities: Callable[[float], None] = lambda _: None

    def start(self) -> None:
        """Read what waited for services that have registered already."""
        for consumer in (self.administration, *self.services.values()):
            self._queues.pull(consumer)

    # ---- registrations ----------------------------------------------------------------------------------------------

    def register(self, service: str, demux: str, *, confirms: bool = False) -> None:
        """ADUs for `demux` below each of this node's IDs go to this service. Raises: LocalProtocolError."""
        endpoints = self._core.names.endpoints(demux)
        for endpoint in endpoints:
            other = self.endpoints.get(endpoint)
            if other is not None and other.service != service:
                raise LocalProtocolError(f"{endpoint} is registered by {other.service} already")
        consumer = self.services.get(service)
        if consumer is None:
            consumer = self.services[service] = Service(service, self._core, self._queues)
        consumer.confirms = confirms
        for endpoint in endpoints:
            self.endpoints[endpoint] = consumer
        self._changed(endpoints, consumer)

    def unregister(self, service: str, demux: str | None = None) -> None:
        """The service (or one endpoint of it) is gone; what it was given and did not answer waits in the store again."""
        consumer = self.services.get(service)
        if consumer is None:
            return
        gone = [
            endpoint
            for endpoint, each in self.endpoints.items()
            if each is consumer and (demux is None or endpoint.demux == demux)
        ]
        for endpoint in gone:
            del self.endpoints[endpoint]
        if consumer not in self.endpoints.values():
            del self.services[service]
            entries = list(consumer.in_flight.values())
            consumer.in_flight.clear()
            self._stalled = deque(item for item in self._stalled if item[0] is not consumer)
            self._queues.give_back(entries)
        self._changed(gone, consumer)

    def _changed(self, endpoints: list[Eid], consumer: Service) -> None:
        self._queues.unload(consumer)
        for endpoint in endpoints:
            queue = self._queues.by_destination.get(endpoint)
            if queue is not None:
                self._queues.evaluate(queue)
        self._queues.pull(consumer)

    def find(self, queue: Queue) -> list[Consumer]:
        """Who serves this local endpoint: nobody (it waits, RFC 9171 §5.7), or one."""
        service = self.endpoints.get(self._endpoint(queue.destination))
        if service is None and not queue.destination.demux:
            service = self.administration
        return [] if service is None else [service]

    def _endpoint(self, destination: Eid) -> Eid:
        """RFC 9758: ipn:!.N is service N of this node."""
        if not destination.is_local:
            return destination
        for node in self._core.names.all:
            if node.scheme == destination.scheme:
                return node.with_demux(destination.demux)
        return destination

    # ---- answers ----------------------------------------------------------------------------------------------------

    def delivered(self, service: Service, outcomes: Sequence[tuple[int, Outcome]], now: float) -> None:
        """The service is done with these: commit what it wants kept, if its ADUs find room."""
        plain: list[tuple[int, Outcome]] = []
        for seq, outcome in outcomes:
            if not outcome.adus:
                plain.append((seq, outcome))
            elif self._fits(service, seq, outcome):
                self._seal(service, seq, outcome, now)
            else:
                self._stall(service, seq, outcome, now)
        if plain:
            self._commit(service, plain, [], now)

    def delivery_failed(self, service: str, seq: int, retry_s: float, now: float) -> None:
        """The service could not take it: hand it over again in `retry_s` seconds."""
        consumer = self.services.get(service)
        entry = None if consumer is None else consumer.in_flight.get(seq)
        if consumer is not None and entry is not None:
            self._core.counters["delivery_failures"] += 1
            self._core.timers.set(("again", seq), now + max(0.0, retry_s), lambda at: self._again(consumer, seq, at))

    def _again(self, consumer: Service, seq: int, now: float) -> None:
        entry = consumer.answered(seq)
        if entry is not None and self._queues.held.get(seq) is entry:
            consumer.ready.appendleft(entry)
            consumer.ready_octets += entry[3]
        consumer.pump(now)

    def _fits(self, service: Service, seq: int, outcome: Outcome) -> bool:
        entry = service.in_flight.get(seq)
        gained = 0 if entry is None else entry[3]
        return octets_of(outcome.adus) <= max(self._core.quota.free, 0) + gained

    def _stall(self, service: Service, seq: int, outcome: Outcome, now: float) -> None:
        self._stalled.append((service, seq, outcome))
        self._core.counters["deliveries_stalled"] += 1
        self._core.timers.set_earlier("stalled", now + STALLED_RETRY_S, self.retry_stalled)

    def retry_stalled(self, now: float) -> None:
        """Look again whether outcomes fit; also when octets were freed."""
        for _ in range(len(self._stalled)):
            service, seq, outcome = self._stalled.popleft()
            self.delivered(service, [(seq, outcome)], now)

    def _seal(self, service: Service, seq: int, outcome: Outcome, now: float) -> None:
        """Its ADUs become bundles once their CRCs are known."""
        self._origination.seal(
            outcome.adus, lambda sealed, at: self._commit(service, [(seq, outcome)], sealed, at), now
        )

    def _commit(self, service: Service, outcomes: list[tuple[int, Outcome]], sealed: list[Sealed], now: float) -> None:
        made = self._made(sealed, now)
        answers: list[Answer] = []
        gone: list[int] = []
        held = self._queues.held
        for seq, outcome in outcomes:
            entry = service.answered(seq)
            if entry is None or held.get(seq) is not entry:
                entry = None  # what the service did is kept, nothing else is left to do
                gone.append(seq)
            if entry is not None or outcome.state:
                answers.append((outcome, entry))
        commit = Commit(service, answers, made, gone)
        if answers or made:
            self._queues.doom(commit.entries)
            self._core.transact_parts(commit, self._committed)
        else:
            self._confirm(commit)
            service.pump(now)  # its window has room again, and nothing else will tell it

    def _confirm(self, commit: Commit) -> None:
        if commit.service.confirms:
            kept = [entry[0].seq for entry in commit.entries]
            self._core.effects.append(Committed(commit.service.service, commit.gone + kept))

    def _made(self, sealed: list[Sealed], now: float) -> list[Entry]:
        made = []
        for item in sealed:
            try:
                made.append(self._origination.entry(item, now))
            except MalformedError as error:  # a source that this node cannot name
                self._core.notice("adu_refused", to=str(item.adu.destination), error=str(error))
                release_payload(item.adu.payload)
        return made

    def _committed(self, commit: Commit, results: Results, now: float) -> None:
        identities, reports = self._core.identities, self._reports
        entries = commit.entries
        for entry in entries:
            primary = _primary(entry)
            if not primary.source.is_null:
                identities.remembered(str(primary.source))
            if reports.enabled:
                reports.tell(DELIVERED, ReasonCode.NO_INFORMATION, primary, entry[0].payload.length, now)
            if self.on_committed:
                self._act(entry[0].seq, now)
        self._core.counters["bundles_delivered"] += len(entries)
        if self._core.config.trace_bundles:
            for bundle, *_ in entries:
                self._core.notice("bundle_delivered", seq=bundle.seq, to=bundle.destination)
        self._confirm(commit)
        if entries:
            self.on_identities(now)
        self._queues.removed(entries, results, now)
        self._queues.added(commit.made, results, now)
        commit.service.pump(now)

    def snapshot(self) -> list[dict[str, Any]]:
        """The services and what they work on."""
        return [
            {
                "name": service.service,
                "endpoints": sorted(str(eid) for eid, each in self.endpoints.items() if each is service),
                "in_hand": len(service.in_flight),
                "stalled": sum(item[0] is service for item in self._stalled),
            }
            for service in self.services.values()
        ]

    def _act(self, seq: int, now: float) -> None:
        item = self.on_committed.pop(seq, None)
        if item is not None:
            self.administration.committed(*item, now)


def _delivery(entry: Entry) -> Delivery:
    primary, bundle = _primary(entry), entry[0]
    return Delivery(
        bundle.seq,
        primary.source,
        primary.destination,
        primary.created_ms,
        primary.sequence,
        primary.lifetime_ms,
        bool(primary.flags & BundleFlags.ADMIN),
        bundle.payload,
    )


def _primary(entry: Entry) -> PrimaryBlock:
    return (entry[1] or decode_stored(entry[0].head)).primary
