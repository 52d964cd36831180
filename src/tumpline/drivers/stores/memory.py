"""The store of nodes that may forget: everything in memory, gone with the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import groupby
from typing import Any

import msgspec

from tumpline.drivers.stores._api import Done, StoreSpec
from tumpline.drivers.stores._files import Buffers, FileWriter, Place
from tumpline.drivers.stores._memory import IDLE_BUFFERS_MAX, MemoryHandle
from tumpline.drivers.stores._ordered import OrderedRows, Row
from tumpline.drivers.stores._sink import BundleSink
from tumpline.errors import StorageError
from tumpline.machines import storage as ops
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange, Octets, StoredBundle

# Heaps are cleaned of entries without a bundle when those are the majority, but not for fewer than these.
STALE_ENTRIES_MIN = 1024


class MemoryConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Bundles are kept in memory and lost when the agent ends."""


class MemoryStore:
    """Store without durability: `done` is called before `submit` returns."""

    durable = False

    def __init__(self) -> None:
        self._all = OrderedRows()
        self._keys: set[bytes] = set()
        self._queues: dict[str, OrderedRows] = {}
        self._fragments: dict[bytes, dict[int, Row]] = {}  # ADU key -> seq -> fragment
        self._expiry: list[tuple[int, int]] = []  # heap of (expires_ms, seq); those of removed bundles stay a while
        self._delivered: dict[bytes, tuple[int, str]] = {}  # key -> (until_ms, source)
        self._delivered_until: list[tuple[int, bytes]] = []  # heap; outdated entries stay until their time
        self._delivered_of: dict[str, int] = {}
        self._state: dict[str, dict[str, bytes]] = {}
        self.octets = 0  # of the encoded bundles held
        self._last_seq = 0
        buffers = Buffers(IDLE_BUFFERS_MAX)
        self._place = Place(lambda: MemoryHandle(buffers), "memory", buffers=buffers)
        self._handlers: dict[type[Any], Callable[[list[Any]], list[Any]]] = {
            ops.Add: self._add,
            ops.Remove: self._remove,
            ops.Remember: self._remember,
            ops.Forget: lambda run: [self._forget(op.now_ms) for op in run],
            ops.PutState: self._put_state,
            ops.GetState: lambda run: [self._get_state(op) for op in run],
            ops.Load: lambda run: [self._load(op) for op in run],
            ops.Get: lambda run: [self._get(op.seqs) for op in run],
            ops.Expired: lambda run: [self._expired(op) for op in run],
            ops.NextExpiry: lambda run: [self._next_expiry() for _ in run],
            ops.Fragments: lambda run: [self._fragments_of(op.adu_key) for op in run],
            ops.Listing: lambda run: [_bundles(self._all.after(op.after, op.limit)) for op in run],
        }

    # ---- Store ----------------------------------------------------------------------------------------------------

    def open(self) -> ops.Recovered:
        """Nothing outlives a process; within one, what was kept so far is found again."""
        queues = {name: (queue.rows, queue.highest()) for name, queue in self._queues.items()}
        remembered = dict(self._delivered_of)
        return ops.Recovered(self._last_seq, self._all.rows, self.octets, queues, remembered, self._next_expiry())

    def submit(self, operations: Sequence[ops.Operation], done: Done) -> None:
        """Carry them out now. What can fail is done before anything is changed."""
        try:
            operations = self._prepare(operations)
        except StorageError as error:
            done(None, error)
            return
        results: ops.Results = []
        for kind, run in groupby(operations, type):
            results += self._handlers[kind](list(run))
        done(results, None)

    def sink(self, octets: int) -> BundleSink:
        return BundleSink(self._place, octets)

    def writer(self) -> FileWriter:
        return FileWriter(self._place)

    async def close(self) -> None:
        """Free everything."""
        for row in self._all:
            _release(row)
        self._all = OrderedRows()
        self._queues.clear()
        self._fragments.clear()

    # ---- bundles --------------------------------------------------------------------------------------------------

    def _prepare(self, operations: Sequence[ops.Operation]) -> Sequence[ops.Operation]:
        """Check the numbers of new bundles and move large payloads out of the heap. Raises: StorageError."""
        seqs = [op.bundle.seq for op in operations if type(op) is ops.Add]
        if not seqs:
            return operations
        held = self._all.get
        if len(set(seqs)) != len(seqs) or any(held(seq) is not None for seq in seqs):
            raise StorageError("a bundle number was given twice; nothing of the transaction was kept")
        if any(type(op) is ops.Add and _is_large(op.bundle) for op in operations):
            return [
                ops.Add(self._outside(op.bundle)) if type(op) is ops.Add and _is_large(op.bundle) else op
                for op in operations
            ]
        return operations

    def _outside(self, bundle: StoredBundle) -> StoredBundle:
        assert isinstance(bundle.payload, Octets)
        writer = self.writer()
        writer.write(bundle.payload.data)
        return bundle._replace(payload=writer.finish())

    def _add(self, run: list[ops.Add]) -> list[ops.AddResult]:
        keys, delivered, queues = self._keys, self._delivered, self._queues
        results = []
        for (bundle,) in run:
            seq = bundle.seq
            if seq > self._last_seq:
                self._last_seq = seq
            if bundle.key in keys or bundle.key in delivered or bundle.adu_key in delivered:
                results.append(ops.AddResult.DUPLICATE)
                continue
            keys.add(bundle.key)
            row = _row(bundle)
            self._all.add(row)
            queue = queues.get(bundle.destination)
            if queue is None:
                queue = queues[bundle.destination] = OrderedRows()
            queue.add(row)
            heappush(self._expiry, (bundle.expires_ms, seq))
            if bundle.fragment_offset >= 0:
                self._fragments.setdefault(bundle.adu_key, {})[seq] = row
            self.octets += bundle.length
            results.append(ops.AddResult.STORED)
        return results

    def _remove(self, run: list[ops.Remove]) -> list[bool]:
        results = []
        for (seq,) in run:
            row = self._all.remove(seq)
            results.append(row is not None)
            if row is not None:
                self._forget_bundle(_bundle(row))
                _release(row)
        if len(self._expiry) > 2 * self._all.rows + STALE_ENTRIES_MIN:
            self._expiry = [(row[_EXPIRES], row[0]) for row in self._all]
            heapify(self._expiry)
        return results

    def _forget_bundle(self, bundle: StoredBundle) -> None:
        self._keys.discard(bundle.key)
        queue = self._queues[bundle.destination]
        queue.remove(bundle.seq)
        if not queue.rows:
            del self._queues[bundle.destination]
        if bundle.fragment_offset >= 0:
            fragments = self._fragments[bundle.adu_key]
            del fragments[bundle.seq]
            if not fragments:
                del self._fragments[bundle.adu_key]
        self.octets -= bundle.length

    def _load(self, op: ops.Load) -> list[StoredBundle]:
        queue = self._queues.get(op.destination)
        return [] if queue is None else _bundles(queue.after(op.after, op.limit))

    def _get(self, seqs: list[int]) -> list[StoredBundle]:
        return [_bundle(row) for row in map(self._all.get, seqs) if row is not None]

    def _fragments_of(self, adu_key: bytes) -> list[StoredBundle]:
        fragments = _bundles(self._fragments.get(adu_key, {}).values())
        return sorted(fragments, key=lambda bundle: (bundle.fragment_offset, bundle.seq))

    # ---- expiry ---------------------------------------------------------------------------------------------------

    def _expired(self, op: ops.Expired) -> list[StoredBundle]:
        found: list[StoredBundle] = []
        taken: list[tuple[int, int]] = []
        left = op.octets
        while len(found) < op.limit and left > 0:
            earliest = self._next_expiry()
            if earliest is None or earliest > op.now_ms:
                break
            taken.append(heappop(self._expiry))
            row = self._all.get(taken[-1][1])
            assert row is not None
            found.append(_bundle(row))
            left -= found[-1].length
        for entry in taken:
            heappush(self._expiry, entry)
        return found

    def _next_expiry(self) -> int | None:
        heap = self._expiry
        while heap and self._all.get(heap[0][1]) is None:
            heappop(heap)
        return heap[0][0] if heap else None

    # ---- identities -----------------------------------------------------------------------------------------------

    def _remember(self, run: list[ops.Remember]) -> list[None]:
        for key, source, until_ms in run:
            known = self._delivered.get(key)
            if known is None:
                self._delivered_of[source] = self._delivered_of.get(source, 0) + 1
            elif known[0] >= until_ms:
                continue
            else:
                source = known[1]
            self._delivered[key] = (until_ms, source)
            heappush(self._delivered_until, (until_ms, key))
        return [None] * len(run)

    def _forget(self, now_ms: int) -> dict[str, int]:
        dropped: dict[str, int] = {}
        heap = self._delivered_until
        while heap and heap[0][0] < now_ms:
            until_ms, key = heappop(heap)
            known = self._delivered.get(key)
            if known is None or known[0] != until_ms:
                continue  # it was remembered for longer since
            del self._delivered[key]
            source = known[1]
            dropped[source] = dropped.get(source, 0) + 1
            self._delivered_of[source] -= 1
            if not self._delivered_of[source]:
                del self._delivered_of[source]
        return dropped

    def state(self, service: str) -> dict[str, bytes]:
        """A copy of the records of one service."""
        return dict(self._state.get(service, {}))

    # ---- state of services ----------------------------------------------------------------------------------------

    def _put_state(self, run: list[ops.PutState]) -> list[None]:
        for service, key, value in run:
            records = self._state.setdefault(service, {})
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value
        return [None] * len(run)

    def _get_state(self, op: ops.GetState) -> dict[str, bytes]:
        records = self._state.get(op.service, {})
        return {key: records[key] for key in sorted(records) if key.startswith(op.prefix)}


# A stored bundle is kept as a plain tuple of what holds no references: such the collector of Python forgets when it first
# sees it. As many bundles as they are, with tuples of their own kind and others in them, it took 0.6 us for each of them
# from time to time, during which nothing else went on: 60 ms for 100,000.
_PAYLOAD, _EXPIRES = StoredBundle._fields.index("payload"), StoredBundle._fields.index("expires_ms")


def _row(bundle: StoredBundle) -> Row:
    payload = bundle.payload
    return (*bundle[:_PAYLOAD], payload.data if isinstance(payload, Octets) else payload, bundle.tail)


def _bundle(row: Row) -> StoredBundle:
    payload = row[_PAYLOAD]
    if not isinstance(payload, FileRange):
        payload = Octets(payload)
    return StoredBundle._make((*row[:_PAYLOAD], payload, row[-1]))


def _bundles(rows: Iterable[Row]) -> list[StoredBundle]:
    return [_bundle(row) for row in rows]


def _release(row: Row) -> None:
    if isinstance(row[_PAYLOAD], FileRange):
        row[_PAYLOAD].handle.release()


def _is_large(bundle: StoredBundle) -> bool:
    return isinstance(bundle.payload, Octets) and len(bundle.payload.data) >= FILE_PAYLOAD_OCTETS


SPEC = StoreSpec(
    "memory", "in memory: fast, and lost when the agent ends", MemoryConfig, lambda _config, _directory: MemoryStore()
)
