"""Transactions of every kind for a store, the same for the same seed, and what the store holds after each of them.

`python -m tumpline.testing.store_workload DIRECTORY SEED COUNT [FAULT]` carries them out and writes a line `ack N` to
its output as each is answered: to be recorded (`testing.strace`) or killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from tumpline.drivers.stores import _sqlite_schema, sqlite
from tumpline.drivers.stores._api import Store
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, Octets, StoredBundle
from tumpline.machines.storage import Add, Operation, PutState, Remember, Remove, Results
from tumpline.testing.unsynced import FAULTS

SERVICE, COUNTER = "workload", "count"
UNDER_WAY = 3  # transactions submitted and not answered: some are committed together
CHECKPOINT_PAGES = 128  # so that a short run has several checkpoints
_SMALL_OCTETS = 5000


class Held(NamedTuple):
    """What a store holds after some transactions."""

    payloads: dict[int, bytes]  # by number of the bundle
    remembered: int

    @property
    def files(self) -> int:
        """How many of the payloads lie in files."""
        return sum(len(payload) >= FILE_PAYLOAD_OCTETS for payload in self.payloads.values())


def transactions(seed: int, count: int) -> Iterator[tuple[list[Operation], Held]]:
    """Each transaction with what is held after it."""
    chance, seq = Random(seed), 0
    payloads: dict[int, bytes] = {}
    for number in range(1, count + 1):
        operations: list[Operation] = []
        for index in range(chance.randrange(1, 4)):
            seq += 1
            large = index == 0 and number % 3 == 0
            payloads[seq] = payload = chance.randbytes(
                FILE_PAYLOAD_OCTETS + chance.randrange(9000) if large else chance.randrange(_SMALL_OCTETS)
            )
            operations.append(Add(_bundle(seq, payload)))
        if number % 4 == 0:
            gone = chance.choice(sorted(payloads))
            del payloads[gone]
            operations.append(Remove(gone))
        operations += [Remember(b"delivered %d" % number, "dtn://ground/", 1 << 50)]
        operations += [PutState(SERVICE, COUNTER, b"%d" % number)]
        yield operations, Held(dict(payloads), number)


def _bundle(seq: int, payload: bytes) -> StoredBundle:
    key = b"key %d" % seq
    return StoredBundle(
        seq, key, key, "dtn://rover/sink", 1 << 50, 500, 7, "dtn://relay/", -1, b"head", Octets(payload), b"tail"
    )


async def carry_out(directory: Path, work: Sequence[list[Operation]]) -> None:
    """Submit everything to a fresh store, a few at a time, and tell each answer."""
    store = sqlite.SPEC.open(sqlite.SPEC.config(), directory)
    store.open()
    room = asyncio.Semaphore(UNDER_WAY)

    def done(number: int, results: Results | None, error: Exception | None) -> None:
        if results is None:
            raise error or AssertionError("neither results nor an error")
        os.write(1, b"ack %d\n" % number)  # one call, so that a record shows it as one
        room.release()

    for number, operations in enumerate(work, 1):
        await room.acquire()
        store.submit([_written(store, operation) for operation in operations], partial(done, number))
    await store.close()


def _written(store: Store, operation: Operation) -> Operation:
    """Every second large payload goes to its file the way an application's does, the others as the store does it."""
    if not isinstance(operation, Add) or not isinstance(operation.bundle.payload, Octets) or operation.bundle.seq % 2:
        return operation
    if operation.bundle.payload.length < FILE_PAYLOAD_OCTETS:
        return operation
    writer = store.writer()
    writer.write(operation.bundle.payload.data)
    return Add(operation.bundle._replace(payload=writer.finish()))


def _main(directory: str, seed: str, count: str, fault: str = "") -> None:
    _sqlite_schema.CHECKPOINT_PAGES = CHECKPOINT_PAGES
    work = [operations for operations, _ in transactions(int(seed), int(count))]
    with FAULTS[fault]() if fault else nullcontext():
        asyncio.run(carry_out(Path(directory), work))


if __name__ == "__main__":
    _main(*sys.argv[1:])
