"""Bundle reception (RFC 9171 §5.6): what came whole over a path becomes a stored bundle, or is refused or deleted.

A transfer is acknowledged once its bundle is durably stored, or once it is clear that nothing of it is worth keeping (a
duplicate, a bundle that is deleted on arrival): the sender must not send it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.bpa.core import Core, release_payload
from tumpline.machines.bpa.queues import Entry, Queue, Queues
from tumpline.machines.bpa.quota import FIRST_HOP
from tumpline.machines.bpa.reports import DELETED, DELETION_REASONS, RECEIVED, Reports
from tumpline.machines.bpa.rewrite import MAX_SEEN, is_repetitive
from tumpline.machines.contract import FileRange, Octets, Payload, StoredBundle
from tumpline.machines.effects import Acknowledge, Arrival, Refuse, RefuseReason
from tumpline.machines.storage import Add, AddResult, Operation, Results
from tumpline.wire.bundle7 import (
    BlockFlags,
    BlockType,
    BundleFlags,
    BundleHead,
    CanonicalBlock,
    PrimaryBlock,
    ReasonCode,
    bundle_id,
    check_tail,
    decode_bundle_age,
    decode_head_untrusted,
    decode_hop_count,
    decode_previous_node,
    reencode_head,
    split_whole,
)

# Stores keep times as 64-bit integers; a lifetime may be any 64-bit number. The year 2^62 ms is far enough.
MAX_TIME_MS = 1 << 62
MAX_HOPS = 255  # RFC 9171 §4.4.3; a bundle without a limit has as many left
_UNDERSTOOD = frozenset((BlockType.PREVIOUS_NODE, BlockType.BUNDLE_AGE, BlockType.HOP_COUNT))


class _DeleteError(Exception):
    """The bundle is deleted on arrival, for a reason that a status report can tell."""

    def __init__(self, reason: int) -> None:
        self.reason = reason


class _RefuseError(Exception):
    """The bundle is not taken now; the sender keeps it."""

    def __init__(self, why: str) -> None:
        self.why = why


class _DuplicateError(Exception):
    """We have it already: taken, and dropped."""


class Whole(NamedTuple):
    """An arrival, decoded and checked."""

    head: BundleHead
    octets: bytes  # of the head
    payload: Payload
    tail: bytes


class Read(NamedTuple):
    """What the extension blocks say."""

    octets: bytes  # the head to store
    head: BundleHead
    age_ms: int
    previous: str


class Facts(NamedTuple):
    """What extension blocks say."""

    hops_left: int  # below zero: the limit was exceeded
    age_ms: int
    previous: str
    unknown: bool  # there is a block that nobody here understands


class Batch(NamedTuple):
    """Arrivals on their way into the store."""

    path: int
    transfers: list[int]
    entries: list[Entry]

    def operations(self) -> list[Operation]:
        return [Add(entry[0]) for entry in self.entries]

    def halves(self) -> tuple[Batch, Batch] | None:
        middle = len(self.entries) // 2
        first = Batch(self.path, self.transfers[:middle], self.entries[:middle])
        return (first, Batch(self.path, self.transfers[middle:], self.entries[middle:])) if middle else None


class Reception:
    """Takes what links bring."""

    def __init__(self, core: Core, queues: Queues, reports: Reports) -> None:
        self._core = core
        self._queues = queues
        self._reports = reports
        self._understood = _UNDERSTOOD | core.config.known_blocks
        self.on_fragments: Callable[[list[Entry], float], None] = lambda _entries, _now: None
        self.fragment_queue: Callable[[PrimaryBlock, int], Queue | None] = lambda _primary, _octets: None
        self._seen: dict[tuple[CanonicalBlock, ...], Facts] = {}
        self.is_whole: Callable[[PrimaryBlock], bool] = lambda _: False
        self.on_earliest: Callable[[int, float], None] = lambda _seq, _now: None

    # ---- arrivals ---------------------------------------------------------------------------------------------------

    def received(self, path: int, previous: str, arrivals: Sequence[Arrival], now: float) -> None:
        """Bundles came whole over `path` from the neighbour `previous` ("": unknown)."""
        batch = Batch(path, [], [])
        dropped: list[int] = []  # nothing to keep, nothing to send again
        now_ms = self._core.clock.ms(now)
        earliest = MAX_TIME_MS
        for arrival in arrivals:
            whole: Whole | None = None
            try:
                whole = self._decode(arrival)
                entry = self._entry(whole, previous, now_ms, now)
            except MalformedError as error:
                self._malformed(path, arrival, str(error))
            except _RefuseError as error:
                self._refuse(path, arrival, error.why)
            except _DeleteError as error:
                assert whole is not None
                self._delete(arrival, whole.head, error.reason, now)
                dropped.append(arrival.transfer)
            except _DuplicateError:
                self._core.counters["bundles_duplicate"] += 1
                self._free(arrival)
                dropped.append(arrival.transfer)
            else:
                batch.transfers.append(arrival.transfer)
                batch.entries.append(entry)
                if entry[0].expires_ms < earliest:
                    earliest = entry[0].expires_ms
        self._core.counters["bundles_received"] += len(arrivals)
        if dropped:
            self._core.effects.append(Acknowledge(path, dropped))
        if batch.entries:
            self.on_earliest(earliest, now)
            # Were all refused when there is room for some, they would come again together for ever.
            self._core.transact_parts(batch, self._stored, self._failed)

    def _decode(self, arrival: Arrival) -> Whole:
        """Raises MalformedError; verifies every CRC (RFC 9171 §5.6 Step 3)."""
        strictness = self._core.config.strictness
        if arrival.payload is None:
            head, payload, tail = split_whole(arrival.data, strictness)
            return Whole(head, arrival.data[: head.payload_offset], Octets(payload), tail)
        octets = len(arrival.data) + arrival.payload.length + len(arrival.tail)
        self._core.quota.release(octets)  # it was reserved when the transfer began, and is counted as held from here
        large = decode_head_untrusted(arrival.data, octets, strictness)
        if large is None or large.payload_length != arrival.payload.length:
            raise MalformedError("the bundle does not have the length it claims")
        check_tail(large, arrival.tail, arrival.payload_crc)
        return Whole(large, arrival.data, arrival.payload, arrival.tail)

    def _entry(self, whole: Whole, previous: str, now_ms: int, now: float) -> Entry:
        """The bundle as it will be stored. Raises _DeleteError, _RefuseError, MalformedError."""
        head, octets, payload, tail = whole
        primary = head.primary
        source = primary.source
        queue = self._queues.queue(primary.destination)
        if primary.destination.is_null or queue.is_closed or source.is_local:
            # RFC 9758 §5.4: ipn:! never leaves a node; the null endpoint has no members (RFC 9171 §4.2.5.1.1); and
            # routing may have a rule that nothing for a destination is taken.
            raise _DeleteError(ReasonCode.DESTINATION_UNAVAILABLE)
        age_ms = 0
        if head.blocks:
            octets, head, age_ms, block_previous = self._read_blocks(head, octets, queue, now)
            previous = previous or block_previous
        expires_ms = self._expires_ms(primary, age_ms, now_ms)
        if expires_ms <= now_ms:
            raise _DeleteError(ReasonCode.LIFETIME_EXPIRED)
        if queue.own:
            queue = self._check_local(primary, queue, payload.length)
        length = len(octets) + payload.length + len(tail)
        core = self._core
        if length > core.quota.free_to_all and length > self._room(head, queue, payload):
            raise _RefuseError("the store is full")
        core.quota.held += length
        if self._reports.enabled:
            self._reports.tell(RECEIVED, ReasonCode.NO_INFORMATION, primary, payload.length, now)
        core.last_seq = seq = core.last_seq + 1
        key, adu_key = identity(primary, payload.length, seq)
        fragment_offset = -1 if primary.fragment_offset is None else primary.fragment_offset
        bundle = StoredBundle(
            seq, key, adu_key, queue.name, expires_ms, now_ms, age_ms, previous, fragment_offset, octets, payload, tail
        )
        return bundle, head, queue, length

    def _room(self, head: BundleHead, queue: Queue, payload: Payload) -> int:
        """Octets that this bundle may take of a store that is filling up."""
        # What came into a file had its room reserved before it came.
        arrived = queue.own or isinstance(payload, FileRange)
        return self._core.quota.room(hops_made(head), arrived=arrived)

    def _check_local(self, primary: PrimaryBlock, queue: Queue, payload_length: int) -> Queue:
        """Where a bundle for this node waits. Raises _RefuseError if its source has too many remembered ones."""
        source = primary.source
        if not source.is_null and self._core.identities.is_full(str(source)):
            raise _RefuseError(f"too many delivered bundles of {source} are remembered")
        if not primary.flags & BundleFlags.IS_FRAGMENT:
            return queue
        if self.is_whole(primary):
            raise _DuplicateError
        waiting = self.fragment_queue(primary, payload_length)
        if waiting is None:
            raise _RefuseError("too many fragments wait for the rest of them")
        return waiting

    def _expires_ms(self, primary: PrimaryBlock, age_ms: int, now_ms: int) -> int:
        """RFC 9171 §5.5: by the creation time, if there is one and the clock is right; else by the bundle's age."""
        if primary.created_ms and self._core.clock.known:
            expires_ms = primary.created_ms + primary.lifetime_ms
        else:
            expires_ms = now_ms - age_ms + primary.lifetime_ms
        limit_ms = self._core.config.max_lifetime_ms
        if limit_ms is not None:
            expires_ms = min(expires_ms, now_ms + limit_ms)
        return min(expires_ms, MAX_TIME_MS)

    # ---- extension blocks -------------------------------------------------------------------------------------------

    def _read_blocks(self, head: BundleHead, octets: bytes, queue: Queue, now: float) -> Read:
        """RFC 9171 §5.6 Step 4 and §4.4. Raises _DeleteError, MalformedError."""
        blocks = head.blocks
        facts = self._seen.get(blocks)
        if facts is None:
            facts = read_blocks(blocks, self._understood, self._core.config.strictness.canonical)
            if is_repetitive(blocks):
                if len(self._seen) >= MAX_SEEN:
                    self._seen.clear()
                self._seen[blocks] = facts
        hops_left, age_ms, previous, unknown = facts
        if hops_left < 0 or (hops_left == 0 and not queue.own):
            raise _DeleteError(ReasonCode.HOP_LIMIT_EXCEEDED)  # it may not make the hop that it needs
        if unknown:
            octets, head = self._unknown_blocks(head, octets, now)
        return Read(octets, head, age_ms, previous)

    def _unknown_blocks(self, head: BundleHead, octets: bytes, now: float) -> tuple[bytes, BundleHead]:
        """What the flags of blocks that nobody here understands ask for. Raises _DeleteError."""
        kept = []
        for block in head.blocks:
            if block.type in self._understood:
                kept.append(block)
                continue
            if block.flags & BlockFlags.REPORT:
                reason = ReasonCode.BLOCK_UNSUPPORTED
                self._reports.report(RECEIVED, reason, head.primary, head.payload_length, now)
            if block.flags & BlockFlags.DELETE_BUNDLE:
                raise _DeleteError(ReasonCode.BLOCK_UNSUPPORTED)
            if not block.flags & BlockFlags.DISCARD:
                kept.append(block)
        if len(kept) == len(head.blocks):
            return octets, head
        shorter = head._replace(blocks=tuple(kept))
        octets = reencode_head(shorter, kept)
        return octets, shorter._replace(payload_offset=len(octets))

    # ---- what became of them ----------------------------------------------------------------------------------------

    def _stored(self, batch: Batch, results: Results, now: float) -> None:
        stored = batch.entries
        if AddResult.DUPLICATE in results:
            stored = [entry for entry, result in zip(stored, results, strict=True) if result is AddResult.STORED]
            for entry, result in zip(batch.entries, results, strict=True):
                if result is AddResult.DUPLICATE:
                    self._drop(entry)
            self._core.counters["bundles_duplicate"] += len(batch.entries) - len(stored)
        self._core.effects.append(Acknowledge(batch.path, batch.transfers))
        if self._core.config.trace_bundles:
            for bundle, *_ in stored:
                self._core.notice("bundle_received", seq=bundle.seq, previous=bundle.previous, to=bundle.destination)
        fragments = [entry for entry in stored if entry[2].reassembles]
        if fragments:
            self.on_fragments(fragments, now)
            stored = [entry for entry in stored if not entry[2].reassembles]
        self._queues.stored(stored, now)

    def _failed(self, batch: Batch, text: str, _: float) -> None:
        for transfer, entry in zip(batch.transfers, batch.entries, strict=True):
            self._drop(entry)
            self._core.effects.append(Refuse(batch.path, transfer, RefuseReason.NO_RESOURCES))
        self._core.counters["transfers_refused"] += len(batch.transfers)
        self._core.notice("transfers_refused", path=batch.path, transfers=len(batch.transfers), why=text)

    def _drop(self, entry: Entry) -> None:
        """It did not get into the store."""
        self._core.quota.held -= entry[3]
        release_payload(entry[0].payload)

    @staticmethod
    def _free(arrival: Arrival) -> None:
        if arrival.payload is not None:
            release_payload(arrival.payload)

    def _malformed(self, path: int, arrival: Arrival, why: str) -> None:
        """RFC 9171 §5.6 Step 3: deleted as unintelligible; there is nobody whose report-to could be believed."""
        self._core.counters["deleted_block_unintelligible"] += 1
        self._refused(path, arrival, RefuseReason.NOT_ACCEPTABLE)
        self._core.notice("bundle_malformed", path=path, transfer=arrival.transfer, error=why)

    def _refuse(self, path: int, arrival: Arrival, why: str) -> None:
        self._refused(path, arrival, RefuseReason.NO_RESOURCES)
        self._core.notice("transfer_refused", path=path, transfer=arrival.transfer, why=why)

    def _refused(self, path: int, arrival: Arrival, reason: RefuseReason) -> None:
        self._free(arrival)
        self._core.counters["transfers_refused"] += 1
        self._core.effects.append(Refuse(path, arrival.transfer, reason))

    def _delete(self, arrival: Arrival, head: BundleHead, reason: int, now: float) -> None:
        """RFC 9171 §5.10: deleted before it was stored."""
        self._free(arrival)
        name = DELETION_REASONS[reason][0]
        self._core.counters[f"deleted_{name}"] += 1
        primary = head.primary
        self._reports.tell(DELETED, reason, primary, head.payload_length, now)
        self._core.notice("bundle_deleted", bundle=str(bundle_id(primary, head.payload_length)), reason=name)


def read_blocks(blocks: tuple[CanonicalBlock, ...], understood: frozenset[int], canonical: bool = True) -> Facts:
    """What the blocks of RFC 9171 §4.4 say. Raises MalformedError."""
    hops_left, age_ms, previous, unknown = MAX_HOPS, 0, "", False
    for block in blocks:
        if block.type == BlockType.HOP_COUNT:
            limit, count = decode_hop_count(block.data, canonical=canonical)
            hops_left = limit - count
        elif block.type == BlockType.BUNDLE_AGE:
            age_ms = min(decode_bundle_age(block.data, canonical=canonical), MAX_TIME_MS)
        elif block.type == BlockType.PREVIOUS_NODE:
            previous = str(decode_previous_node(block.data, canonical=canonical))
        elif block.type not in understood:
            unknown = True
    return Facts(hops_left, age_ms, previous, unknown)


def hops_made(head: BundleHead) -> int:
    """How far a bundle from a neighbour came (RFC 9171 §4.4.3). Its blocks were read before."""
    for block in head.blocks:
        if block.type == BlockType.HOP_COUNT:
            return max(FIRST_HOP, decode_hop_count(block.data)[1])
    return FIRST_HOP


def identity(primary: PrimaryBlock, payload_length: int, seq: int) -> tuple[bytes, bytes]:
    """Key and ADU key. RFC 9171 §4.2.3: anonymous bundles cannot be told apart, so each is one of its own."""
    name = bundle_id(primary, payload_length)
    adu_key = name.adu_key
    if primary.fragment_offset is not None:
        return name.key, adu_key
    if primary.source.is_null:
        adu_key += seq.to_bytes(8, "big")
    return adu_key, adu_key
