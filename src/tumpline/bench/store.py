"""store: adding bundles to memory and to disk, starting over a million of them, and what a million costs each one."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tumpline.bench.framework.api import BenchSpec, Effort, Figure, latency, throughput
from tumpline.bench.framework.measure import alternate, rate_per_s
from tumpline.bench.limits import store as limit
from tumpline.drivers.stores import memory, sqlite
from tumpline.drivers.stores._api import Store, StoreSpec
from tumpline.drivers.stores._sqlite_schema import DATABASE
from tumpline.errors import StorageError
from tumpline.machines.contract import Octets, StoredBundle
from tumpline.machines.storage import Add, Load, Operation, Remove, Results
from tumpline.wire.bundle7 import PrimaryBlock, bundle_id, encode_head, encode_tail, payload_block_prefix, payload_crc
from tumpline.wire.eid import NULL, Eid

ADDED = 50_000
MANY, FEW = 1_000_000, 1_000
BATCH = 256  # operations of one transaction: about what one read from a fast link brings
_UNDER_WAY = 8  # transactions submitted and not answered, as under load
_FORWARDED = 10_000
_CRC = 2
_CREATED_MS, _LIFETIME_MS = 850_000_000_000, 86_400_000
_DESTINATION, _SOURCE = Eid.parse("dtn://rover/sink"), Eid.parse("dtn://ground/source")
_QUEUE = str(_DESTINATION)


def run(effort: Effort) -> Mapping[str, Figure]:
    """The figures of this bench."""
    many = MANY if not effort.quick else MANY // 10
    figures = dict(_adding(effort))
    with tempfile.TemporaryDirectory(prefix="tumpline-bench-") as name:
        directory = Path(name)
        asyncio.run(_fill(directory, many))
        figures["start_1M_s"] = _start(directory, many, effort)
        at_many = asyncio.run(_forward_cost(directory, effort))
    with tempfile.TemporaryDirectory(prefix="tumpline-bench-") as name:
        asyncio.run(_fill(Path(name), FEW))
        at_few = asyncio.run(_forward_cost(Path(name), effort))
    told = f"a cost that does not grow (measured {at_few * 1e6:.1f} us at {FEW}, {at_many * 1e6:.1f} us at {many})"
    figures["forward_at_1M_ratio"] = latency(at_many / at_few, "times", 1.0, told)
    return figures


def _adding(effort: Effort) -> Iterator[tuple[str, Figure]]:
    bundles = list(_bundles(1, effort.scaled(ADDED)))
    pair = alternate(
        partial(rate_per_s, partial(_add, memory.SPEC, bundles)),
        partial(rate_per_s, partial(limit.add_to_dicts, bundles)),
        effort.runs,
    )
    yield (
        "add_per_s",
        throughput(
            pair.ours,
            "bundles/s",
            pair.limit,
            "dicts by identity, number and queue and a heap of expiry times, no transactions",
        ),
    )
    pair = alternate(
        partial(rate_per_s, partial(_add, sqlite.SPEC, bundles)),
        partial(rate_per_s, partial(_add_plain, bundles)),
        effort.runs,
    )
    yield (
        "add_durable_per_s",
        throughput(
            pair.ours, "bundles/s", pair.limit, f"one SQLite table, executemany, a synced commit for each {BATCH}"
        ),
    )


def _bundles(first: int, count: int) -> Iterator[StoredBundle]:
    prefix = payload_block_prefix(0, _CRC, 100)
    for seq in range(first, first + count):
        primary = PrimaryBlock(0, _CRC, _DESTINATION, _SOURCE, NULL, _CREATED_MS, seq, _LIFETIME_MS, None, None)
        payload = seq.to_bytes(100, "big")
        key = bundle_id(primary, 100).key
        yield StoredBundle(
            seq=seq,
            key=key,
            adu_key=key,
            destination=_QUEUE,
            expires_ms=_CREATED_MS + _LIFETIME_MS,
            received_ms=_CREATED_MS,
            age_ms=0,
            previous="",
            fragment_offset=-1,
            head=encode_head(primary, (), 100),
            payload=Octets(payload),
            tail=encode_tail(_CRC, payload_crc(_CRC, prefix, payload)),
        )


# ---- ours ------------------------------------------------------------------------------------------------------------


async def _submit_all(store: Store, transactions: Iterator[Sequence[Operation]]) -> list[Results]:
    """Submit with a few under way, as the runtime does under load."""
    room, answers = asyncio.Semaphore(_UNDER_WAY), list[Results]()
    failed: list[Exception] = []

    def done(results: Results | None, error: Exception | None) -> None:
        room.release()
        if error is not None:
            failed.append(error)
        elif results is not None:
            answers.append(results)

    for operations in transactions:
        await room.acquire()
        store.submit(operations, done)
    for _ in range(_UNDER_WAY):
        await room.acquire()
    if failed:
        raise failed[0]
    return answers


def _batches(operations: Iterator[Operation]) -> Iterator[list[Operation]]:
    batch: list[Operation] = []
    for operation in operations:
        batch.append(operation)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _add(spec: StoreSpec, bundles: Sequence[StoredBundle]) -> int:
    with tempfile.TemporaryDirectory(prefix="tumpline-bench-") as name:
        return asyncio.run(_add_to(spec, Path(name), bundles))


async def _add_to(spec: StoreSpec, directory: Path, bundles: Sequence[StoredBundle]) -> int:
    store = spec.open(spec.config(), directory)
    store.open()
    await _submit_all(store, _batches(map(Add, bundles)))
    await store.close()
    return len(bundles)


def _add_plain(bundles: Sequence[StoredBundle]) -> int:
    with tempfile.TemporaryDirectory(prefix="tumpline-bench-") as name:
        table = limit.PlainTable(Path(name) / "plain.sqlite")
        count = table.add(bundles, BATCH)
        table.close()
        return count


async def _fill(directory: Path, count: int) -> None:
    store = sqlite.SPEC.open(sqlite.SPEC.config(), directory)
    store.open()
    await _submit_all(store, _batches(map(Add, _bundles(1, count))))
    await store.close()


def _start(directory: Path, count: int, effort: Effort) -> Figure:
    pair = alternate(
        lambda: asyncio.run(_open(directory, count)),
        lambda: limit.open_seconds(directory / DATABASE),
        effort.runs,
    )
    return latency(pair.ours, "s", pair.limit, f"sqlite3.connect and SELECT max(seq), at {count} bundles")


async def _open(directory: Path, count: int) -> float:
    store = sqlite.SPEC.open(sqlite.SPEC.config(), directory)
    begin = time.perf_counter()
    found = store.open()
    elapsed = time.perf_counter() - begin
    await store.close()
    if found.bundles != count:
        raise StorageError(f"{found.bundles} bundles instead of {count} after a start")
    return elapsed


async def _forward_cost(directory: Path, effort: Effort) -> float:
    """Seconds a bundle to load, remove and replace it: the store stays as full as it was."""
    store = sqlite.SPEC.open(sqlite.SPEC.config(), directory)
    last = store.open().last_seq
    costs = []
    for _ in range(effort.runs):
        count = effort.scaled(_FORWARDED)
        fresh = list(_bundles(last + 1, count))
        begin = time.perf_counter()
        await _forward(store, fresh)
        costs.append((time.perf_counter() - begin) / count)
        last += count
    await store.close()
    return statistics.median(costs)


async def _forward(store: Store, fresh: list[StoredBundle]) -> None:
    for first in range(0, len(fresh), BATCH):
        batch = fresh[first : first + BATCH]
        ((loaded,),) = await _submit_all(store, iter([[Load(_QUEUE, 0, len(batch))]]))
        if len(loaded) != len(batch):
            raise StorageError(f"{len(loaded)} bundles in the queue instead of {len(batch)}")
        operations: list[Operation] = [Remove(bundle.seq) for bundle in loaded]
        await _submit_all(store, iter([[*operations, *map(Add, batch)]]))


SPEC = BenchSpec(
    "store",
    "adding bundles, starting over a million of them, forwarding among them",
    ("add_per_s", "add_durable_per_s", "start_1M_s", "forward_at_1M_ratio"),
    run,
    durable=True,
)
