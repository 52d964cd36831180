"""ADU reassembly (RFC 9171 §5.9): fragments for this node wait until together they cover their ADU.

They wait in the store, in queues of their own that nobody empties; memory holds which extents have come, not their octets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.bpa.accept import identity
from tumpline.machines.bpa.core import Core, release_payload, retain_payload
from tumpline.machines.bpa.queues import Entry, Queue, Queues
from tumpline.machines.bpa.rewrite import decode_stored
from tumpline.machines.contract import Octets, Payload, StoredBundle
from tumpline.machines.effects import Join
from tumpline.machines.storage import Add, AddResult, Fragments, Load, Operation, Results
from tumpline.wire.bundle7 import (
    BundleFlags,
    PrimaryBlock,
    bundle_id,
    encode_head,
    encode_tail,
    payload_block_prefix,
    payload_crc,
)

MAX_ADUS = 4096  # under reassembly at once; further ones are refused until some are complete or expired
MAX_FRAGMENTS = 65_536  # of one ADU
PAGE_BUNDLES = 256
RETRY_S = 5.0  # after the payloads could not be joined (disk full)


class Gathering:
    """Which parts of an ADU have come."""

    __slots__ = ("busy", "extents", "fragments", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.extents: list[tuple[int, int]] = []  # start, end; sorted, apart from each other
        self.fragments = 0
        self.busy = False  # being joined

    def add(self, start: int, length: int) -> None:
        """RFC 9171 §5.9: overlaps count once."""
        self.fragments += 1
        end = start + length
        apart = []
        for low, high in self.extents:
            if high < start or end < low:
                apart.append((low, high))
            else:
                start, end = min(start, low), max(end, high)
        self.extents = sorted([*apart, (start, end)])

    @property
    def is_complete(self) -> bool:
        return self.extents == [(0, self.total)]


class Joining(NamedTuple):
    """Fragments whose payloads are being made one."""

    adu_key: bytes
    first: StoredBundle  # the one at offset zero: its blocks become the whole bundle's
    fragments: list[StoredBundle]
    ranges: list[tuple[Payload, int, int]]


class Reassembly:
    """Gathers fragments."""

    def __init__(self, core: Core, queues: Queues) -> None:
        self._core = core
        self._queues = queues
        self._gatherings: dict[bytes, Gathering] = {}
        self._joinings: dict[int, Joining] = {}
        self._finished: dict[bytes, None] = {}  # made whole in this run: further fragments of them are duplicates
        self._last_join = 0

    # ---- fragments that come ------------------------------------------------------------------------------------------

    def queue_for(self, primary: PrimaryBlock, _payload_length: int) -> Queue | None:
        """Where a fragment for this node waits; None: there is no room for it. Raises MalformedError."""
        gathering = self._gatherings.get(bundle_id(primary, 0).adu_key)
        if gathering is None:
            if len(self._gatherings) >= MAX_ADUS:
                return None
        elif gathering.total != primary.total_adu_length:
            raise MalformedError(
                f"fragments of one ADU claim it is {gathering.total} and {primary.total_adu_length} long"
            )
        elif gathering.fragments >= MAX_FRAGMENTS:
            return None
        return self._queues.reassembly_queue(primary.destination)

    def is_finished(self, primary: PrimaryBlock) -> bool:
        """Whether the ADU was made whole already (once it is delivered, the store knows that too)."""
        return bool(self._finished) and bundle_id(primary, 0).adu_key in self._finished

    def stored(self, entries: list[Entry], _: float) -> None:
        """Fragments are stored: see whether they complete their ADU."""
        touched: dict[bytes, None] = {}
        for entry in entries:
            bundle, head, queue, octets = entry
            queue.bundles += 1
            queue.octets += octets
            queue.last = bundle.seq
            self._count(bundle, (head or decode_stored(bundle.head)).primary)
            touched[bundle.adu_key] = None
        for adu_key in touched:
            self._check(adu_key)

    def _count(self, bundle: StoredBundle, primary: PrimaryBlock) -> None:
        assert primary.total_adu_length is not None
        gathering = self._gatherings.get(bundle.adu_key)
        if gathering is None:
            gathering = self._gatherings[bundle.adu_key] = Gathering(primary.total_adu_length)
        gathering.add(bundle.fragment_offset, bundle.payload.length)

    def _check(self, adu_key: bytes) -> None:
        gathering = self._gatherings.get(adu_key)
        if gathering is not None and gathering.is_complete and not gathering.busy:
            gathering.busy = True
            self._core.transact([Fragments(adu_key)], adu_key, self._join)

    def gone(self, entries: list[Entry]) -> None:
        """Some fragments were deleted: what is left of their ADUs is counted anew from the store."""
        for adu_key in dict.fromkeys(entry[0].adu_key for entry in entries if entry[2].reassembles):
            gathering = self._gatherings.get(adu_key)
            if gathering is not None and not gathering.busy:
                del self._gatherings[adu_key]
                self._core.transact([Fragments(adu_key)], None, self._recount)

    def _recount(self, _: None, results: Results, __: float) -> None:
        left: list[StoredBundle] = results[0]
        if left and left[0].adu_key not in self._gatherings:
            for bundle in left:
                self._count(bundle, decode_stored(bundle.head).primary)
            self._check(left[0].adu_key)

    # ---- after a restart ------------------------------------------------------------------------------------------------

    def recovered(self, queue: Queue) -> None:
        """Fragments waited in this queue when the node stopped."""
        load: list[Operation] = [Load(queue.name, 0, PAGE_BUNDLES)]
        self._core.transact(load, queue, self._page)

    def _page(self, queue: Queue, results: Results, _: float) -> None:
        page: list[StoredBundle] = results[0]
        for bundle in page:
            self._count(bundle, decode_stored(bundle.head).primary)
        if len(page) == PAGE_BUNDLES:
            self._core.transact([Load(queue.name, page[-1].seq, PAGE_BUNDLES)], queue, self._page)
        else:
            for adu_key in list(self._gatherings):
                self._check(adu_key)

    # ---- joining --------------------------------------------------------------------------------------------------------

    def _join(self, adu_key: bytes, results: Results, _: float) -> None:
        fragments = [bundle for bundle in results[0] if not self._queues.is_doomed(bundle.seq)]
        ranges = material_ranges(fragments, self._gatherings[adu_key].total)
        if ranges is None:  # one expired meanwhile
            self._gatherings.pop(adu_key)
            self._recount(None, [fragments], 0.0)
            return
        for payload, _start, _length in ranges:
            retain_payload(payload)
        self._last_join += 1
        self._joinings[self._last_join] = Joining(adu_key, fragments[0], fragments, ranges)
        self._core.effects.append(Join(self._last_join, ranges))

    def join_done(self, token: int, payload: Payload | None, now: float) -> None:
        """The payload is whole: the whole bundle takes the place of its fragments."""
        adu_key, first, fragments, ranges = self._joinings.pop(token)
        for each, _, _ in ranges:
            release_payload(each)
        if payload is None:
            self._core.notice("reassembly_failed", fragments=len(fragments))
            self._core.timers.set(("join", adu_key), now + RETRY_S, lambda _: self._again(adu_key))
            return
        entry = self._whole(first, payload)
        self._core.quota.held += entry[3]
        parts = [self._queues.as_entry(fragment) for fragment in fragments]
        context: Any = (adu_key, entry, parts)
        self._queues.remove_with(parts, [Add(entry[0])], context, self._joined)

    def _again(self, adu_key: bytes) -> None:
        gathering = self._gatherings.get(adu_key)
        if gathering is not None:
            gathering.busy = False
            self._check(adu_key)

    def _whole(self, first: StoredBundle, payload: Payload) -> Entry:
        """The bundle as it was before it was cut; the node's own stay counts from the first fragment on."""
        head = decode_stored(first.head)
        flags = head.primary.flags & ~BundleFlags.IS_FRAGMENT
        primary = head.primary._replace(flags=flags, fragment_offset=None, total_adu_length=None)
        # The CRC over a payload in a file would cost another pass; each fragment's was verified when it came.
        crc_type = 2 if isinstance(payload, Octets) else 0
        prefix = payload_block_prefix(head.payload_flags, crc_type, payload.length)
        crc = payload_crc(crc_type, prefix, payload.data) if isinstance(payload, Octets) else 0
        octets = encode_head(primary, head.blocks, payload.length, head.payload_flags, crc_type)
        self._core.last_seq = seq = self._core.last_seq + 1
        key, adu_key = identity(primary, payload.length, seq)
        queue = self._queues.queue(primary.destination)
        tail = encode_tail(crc_type, crc)
        whole = first._replace(
            seq=seq,
            key=key,
            adu_key=adu_key,
            destination=queue.name,
            fragment_offset=-1,
            head=octets,
            payload=payload,
            tail=tail,
        )
        return whole, None, queue, whole.length

    def _joined(self, context: tuple[bytes, Entry, list[Entry]], results: Results, now: float) -> None:
        adu_key, entry, parts = context
        self._gatherings.pop(adu_key, None)
        if len(self._finished) >= MAX_ADUS:
            self._finished.pop(next(iter(self._finished)))
        self._finished[adu_key] = None
        self._queues.removed(parts, results, now)
        self._core.counters["bundles_reassembled"] += results[0] is AddResult.STORED
        self._queues.added([entry], results, now)


def material_ranges(fragments: list[StoredBundle], total: int) -> list[tuple[Payload, int, int]] | None:
    """RFC 9171 §5.9: from fragments in order of their offsets, the parts that make up the ADU; None if one is missing."""
    ranges: list[tuple[Payload, int, int]] = []
    at = 0
    for bundle in fragments:
        end = bundle.fragment_offset + bundle.payload.length
        if bundle.fragment_offset > at:
            return None
        if end > at:
            ranges.append((bundle.payload, at - bundle.fragment_offset, end - at))
            at = end
    return ranges if at == total else None
