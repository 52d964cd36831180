"""Bundle transmission (RFC 9171 §5.2): ADUs of local applications, and of the node itself, become stored bundles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.bpa.accept import MAX_TIME_MS, identity
from tumpline.machines.bpa.core import Core, release_payload
from tumpline.machines.bpa.queues import Entry, Queues
from tumpline.machines.contract import Octets, StoredBundle
from tumpline.machines.effects import Adu, AduRefusal, AduRefused, AduStored, Split
from tumpline.machines.storage import Add, Operation, Results
from tumpline.wire.bundle7 import (
    BundleFlags,
    CanonicalBlock,
    CrcType,
    PrimaryBlock,
    bundle_age_block,
    bundle_id,
    encode_block,
    encode_tail,
    hop_count_block,
    make_head,
    payload_block_prefix,
    payload_crc,
    payload_crc32c_of,
)
from tumpline.wire.eid import NULL

# The head, CRC and break of a bundle that this node makes: three EIDs and a few numbers. For judging whether it fits.
OVERHEAD_OCTETS = 200


class Sealed(NamedTuple):
    """An ADU, with the CRC of its payload block."""

    adu: Adu
    crc: int


class Batch(NamedTuple):
    """ADUs on their way into the store, and the bundles that they are."""

    adus: list[Adu]
    entries: list[Entry]

    def operations(self) -> list[Operation]:
        return [Add(entry[0]) for entry in self.entries]

    def halves(self) -> tuple[Batch, Batch] | None:
        middle = len(self.adus) // 2
        halves = Batch(self.adus[:middle], self.entries[:middle]), Batch(self.adus[middle:], self.entries[middle:])
        return halves if middle else None


class Job(NamedTuple):
    """ADUs of which some payloads lie in files: their CRCs are being computed."""

    adus: list[Adu]
    crcs: list[int | None]
    then: Callable[[list[Sealed], float], None]


class Origination:
    """Makes bundles."""

    def __init__(self, core: Core, queues: Queues) -> None:
        self._core = core
        self._queues = queues
        self._jobs: dict[int, tuple[Job, int]] = {}
        self._last_job = 0
        self.on_earliest: Callable[[int, float], None] = lambda _seq, _now: None

    # ---- ADUs that applications ask for --------------------------------------------------------------------------

    def originate(self, adus: Sequence[Adu], now: float) -> None:
        """Store each as a bundle, and answer it with AduStored or AduRefused."""
        ready: list[Adu] = []
        for adu in adus:
            if _needs_crc_job(adu):
                if self._may_have_room(adu):
                    self.seal([adu], self._store, now)
            else:
                ready.append(adu)
        if ready:
            self.seal(ready, self._store, now)

    def _store(self, sealed: list[Sealed], now: float) -> None:
        entries: list[Entry] = []
        adus: list[Adu] = []
        for item in sealed:
            try:
                if not self._may_have_room(item.adu):
                    continue
                entries.append(self.entry(item, now))
                adus.append(item.adu)
            except MalformedError as error:
                self._refuse(item.adu, str(error), AduRefusal.IMPOSSIBLE)
        if entries:
            self._core.transact_parts(Batch(adus, entries), self._stored, self._failed)

    def _room(self, adu: Adu) -> int:
        """Octets that this ADU may take: fewer than what comes from others, which could otherwise not pass through."""
        return self._core.quota.room(0, arrived=self._core.names.is_own(adu.destination))

    def fits(self, adus: Sequence[Adu]) -> int:
        """How many of these, from the first on, find room now."""
        octets = 0
        quota = self._core.quota
        for count, adu in enumerate(adus):
            octets += octets_of([adu])
            # An empty store takes whatever fits, but only once.
            away = count and not self._core.names.is_own(adu.destination)
            if octets > (quota.free_to_all if away else self._room(adu)):
                return count
        return len(adus)

    def _may_have_room(self, adu: Adu) -> bool:
        """Else it is refused."""
        octets = adu.payload.length + OVERHEAD_OCTETS
        if octets <= self._room(adu):
            return True
        limit = self._core.quota.limit
        if octets > limit:
            why = f"an ADU of {adu.payload.length} octets never fits into a store of {limit} octets: raise its quota"
            self._refuse(adu, why, AduRefusal.IMPOSSIBLE)
        else:
            self._refuse(adu, "the store is full: remove bundles, raise the quota, or wait", AduRefusal.NO_ROOM)
        return False

    def _stored(self, batch: Batch, results: Results, now: float) -> None:
        adus, entries = batch
        for adu, entry in zip(adus, entries, strict=True):
            if adu.token:
                head = entry[1]
                assert head is not None
                self._core.effects.append(AduStored(adu.token, str(bundle_id(head.primary, head.payload_length))))
        self._queues.added(entries, results, now)

    def _failed(self, batch: Batch, text: str, _: float) -> None:
        adus, entries = batch
        self._core.quota.held -= sum(entry[3] for entry in entries)
        for adu in adus:
            self._refuse(adu, text, AduRefusal.NOT_STORED)

    def _refuse(self, adu: Adu, why: str, kind: AduRefusal) -> None:
        self._core.counters["adus_refused"] += 1
        if adu.token:
            self._core.effects.append(AduRefused(adu.token, why, kind))
        else:
            release_payload(adu.payload)

    # ---- CRCs over payloads in files ---------------------------------------------------------------------------------

    def seal(self, adus: list[Adu], then: Callable[[list[Sealed], float], None], now: float) -> None:
        """Call `then` with all of them once their CRCs are known: at once, unless a payload must be read for it."""
        job = Job(adus, [None] * len(adus), then)
        for index, adu in enumerate(adus):
            prefix = payload_block_prefix(0, adu.crc_type, adu.payload.length)
            job.crcs[index] = _known_crc(adu, prefix)
            if job.crcs[index] is None:
                self._last_job -= 1  # never the number of a bundle
                self._jobs[self._last_job] = (job, index)
                pieces = [(0, adu.payload.length, prefix)]
                self._core.effects.append(Split(self._last_job, adu.payload, pieces, adu.crc_type))
        self._finish(job, now)

    def split_done(self, number: int, crcs: list[int], now: float) -> None:
        """The CRC of one payload is known."""
        job, index = self._jobs.pop(number)
        job.crcs[index] = crcs[0]
        self._finish(job, now)

    def _finish(self, job: Job, now: float) -> None:
        crcs = [crc for crc in job.crcs if crc is not None]
        if len(crcs) == len(job.adus):
            job.then([Sealed(adu, crc) for adu, crc in zip(job.adus, crcs, strict=True)], now)

    # ---- bundles -----------------------------------------------------------------------------------------------------

    def entry(self, sealed: Sealed, now: float) -> Entry:
        """The bundle to store, counted against the quota. Raises MalformedError: no such source or destination."""
        adu, crc = sealed
        core = self._core
        core.last_seq = seq = core.last_seq + 1
        primary = self._primary(adu, seq, now)
        hop_limit = core.config.hop_limit if adu.hop_limit is None else adu.hop_limit
        blocks, middle = _blocks(primary.created_ms != 0, hop_limit, primary.crc_type)
        octets, head = make_head(primary, blocks, middle, adu.payload.length, adu.crc_type)
        tail = encode_tail(adu.crc_type, crc)
        queue = self._queues.queue(adu.destination)
        now_ms = core.clock.ms(now)
        expires_ms = min((primary.created_ms or now_ms) + adu.lifetime_ms, MAX_TIME_MS)
        key, adu_key = identity(primary, adu.payload.length, seq)
        bundle = StoredBundle(seq, key, adu_key, queue.name, expires_ms, now_ms, 0, "", -1, octets, adu.payload, tail)
        length = bundle.length
        core.quota.held += length
        self.on_earliest(expires_ms, now)
        core.counters["bundles_originated"] += 1
        return bundle, head, queue, length

    def _primary(self, adu: Adu, seq: int, now: float) -> PrimaryBlock:
        """RFC 9171 §4.2.7. The node's own bundle number serves as sequence: unique over restarts and clock steps."""
        core = self._core
        if adu.destination.is_null:  # RFC 9171 §4.2.5.1.1: it has no members, so nobody could ever get it
            raise MalformedError("nothing can be sent to the null endpoint: name a destination")
        flags = adu.report_flags & BundleFlags.REPORTS
        if adu.admin:
            flags = BundleFlags.ADMIN  # §4.2.3: an administrative record asks for no reports
        if adu.wants_ack:
            flags |= BundleFlags.ACK_REQUESTED
        if adu.must_not_fragment:
            flags |= BundleFlags.MUST_NOT_FRAGMENT
        created_ms = core.clock.ms(now) if core.clock.known else 0
        crc_type = adu.crc_type or 2  # §4.3.1: the primary block has a CRC
        source = core.names.source(adu.source_demux, adu.source_node)
        report_to = adu.report_to if adu.report_to is not None else (source if flags & BundleFlags.REPORTS else NULL)
        return PrimaryBlock(flags, crc_type, adu.destination, source, report_to, created_ms, seq, adu.lifetime_ms)


def octets_of(adus: Sequence[Adu]) -> int:
    """About as many octets as the bundles of these ADUs will take."""
    return sum(adu.payload.length + OVERHEAD_OCTETS for adu in adus)


def _known_crc(adu: Adu, prefix: bytes) -> int | None:
    """The CRC of the payload block, unless a file must be read for it."""
    payload = adu.payload
    if isinstance(payload, Octets):
        return payload_crc(adu.crc_type, prefix, payload.data)
    if adu.crc_type == CrcType.CRC32C and payload.crc32c is not None:
        return payload_crc32c_of(prefix, payload.crc32c, payload.length)
    return None if adu.crc_type else 0


def _needs_crc_job(adu: Adu) -> bool:
    payload = adu.payload
    if isinstance(payload, Octets) or not adu.crc_type:
        return False
    return adu.crc_type != CrcType.CRC32C or payload.crc32c is None


@lru_cache(maxsize=1024)
def _blocks(has_time: bool, hop_limit: int, crc_type: int) -> tuple[tuple[CanonicalBlock, ...], bytes]:
    """The extension blocks of a new bundle, and their octets."""
    blocks = []
    if not has_time:
        blocks.append(bundle_age_block(0, 2, crc_type))  # RFC 9171 §4.4.2
    if hop_limit:
        blocks.append(hop_count_block(hop_limit, 0, 3, crc_type))
    return tuple(blocks), b"".join(map(encode_block, blocks))
