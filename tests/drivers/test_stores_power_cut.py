"""The power is cut at every sync of a recorded run: whatever was acknowledged is there, and nothing by halves.

What an image holds is in `tumpline.testing.disk_image`: of what was not synced nothing, or whatever chance leaves.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tumpline.drivers.stores import sqlite
from tumpline.errors import TumplineError
from tumpline.machines.contract import StoredBundle
from tumpline.machines.storage import Add, AddResult, GetState, Listing
from tumpline.testing import strace
from tumpline.testing.conformance.stores import Shelf, octets_of, stored_bundle
from tumpline.testing.disk_image import DiskImage
from tumpline.testing.store_workload import COUNTER, SERVICE, Held, transactions

TRANSACTIONS = 24
SEEDS = range(2)  # of what chance leaves at each cut
SOAK_SEEDS = range(12)
HANG_S = 60
STORE = "state/store"  # below the directory that is recorded


class Run(NamedTuple):
    """One recorded run."""

    root: Path
    calls: list[strace.Call]
    states: list[Held]  # after no transaction, after the first, ...

    def acknowledged(self, place: int) -> int:
        """The highest transaction that anybody can know to be kept, at a place of the record."""
        told = [call for call in self.calls if call.begin <= place and call.name == "write"]
        return max((int(call.written[4:]) for call in told if call.written.startswith(b"ack ")), default=0)


def record(directory: Path, seed: int, transactions_count: int, fault: str = "") -> Run:
    """Carry the workload out in a process, and note what it asks of the kernel."""
    root, log = directory / "recorded", directory / "strace.log"
    root.mkdir()
    command = [
        sys.executable,
        "-m",
        "tumpline.testing.store_workload",
        str(root / STORE),
        str(seed),
        str(transactions_count),
    ]
    command = strace.command(log) + command + ([fault] if fault else [])
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=HANG_S)
    states = [Held({}, 0), *(held for _, held in transactions(seed, transactions_count))]
    return Run(root, strace.read_calls(log), states)


async def look_at(directory: Path, run: Run, acknowledged: int) -> int:
    """Open a store on what the cut left. Returns: how many transactions it holds; fails if they are not whole or if
    fewer than were acknowledged."""
    shelf = Shelf(lambda path: sqlite.SPEC.open(sqlite.SPEC.config(), path), directory)
    recovered = shelf.open()
    try:
        state = await shelf.one(GetState(SERVICE))
        kept = int(state.get(COUNTER, b"0"))
        assert kept >= acknowledged, f"{acknowledged} transactions were acknowledged, {kept} are there"
        held = run.states[kept]
        bundles: list[StoredBundle] = await shelf.one(Listing(0, 10_000))
        assert {bundle.seq: octets_of(bundle.payload) for bundle in bundles} == held.payloads, "payloads differ"
        assert recovered.bundles == len(held.payloads)
        assert recovered.octets == sum(bundle.length for bundle in bundles)
        assert sum(recovered.remembered.values()) == held.remembered
        assert len(list((directory / sqlite.PAYLOADS).iterdir())) == held.files, "a file that nothing names was left"
        fresh = stored_bundle(recovered.last_seq + 1)
        assert await shelf.one(Add(fresh)) is AddResult.STORED
        return kept
    finally:
        await shelf.store.close()


def cut_everywhere(run: Run, directory: Path, seeds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Look at every image of every cut. Returns: for each, how many transactions were acknowledged and how many kept."""
    image, target = DiskImage(run.root), directory / "image"
    for place in image.replay(run.calls):
        acknowledged = run.acknowledged(place)
        for chance in (None, *(Random(f"{seed} {place}") for seed in seeds)):
            image.write_to(target, chance)
            yield acknowledged, asyncio.run(look_at(target / STORE, run, acknowledged))
            shutil.rmtree(target)


def check(run: Run, directory: Path, seeds: Sequence[int]) -> None:
    found = list(cut_everywhere(run, directory, seeds))
    acknowledged = [told for told, _ in found]
    assert max(acknowledged) == len(run.states) - 1, "the record does not reach the last acknowledgement"
    assert len(set(acknowledged)) > len(run.states) // 3, "there were too few cuts between acknowledgements"
    assert any(kept > told for told, kept in found), "no cut came between a commit and its acknowledgement"


def test_every_acknowledged_transaction_outlives_a_power_cut(tmp_path: Path) -> None:
    run = record(tmp_path, 1, TRANSACTIONS)
    synced = [call.where.rpartition("/")[2] for call in run.calls if call.name in strace.SYNCS]
    assert synced.count("store.sqlite") > 1, "the run has no checkpoint"
    check(run, tmp_path, SEEDS)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 5))
def test_many_power_cuts(tmp_path: Path, seed: int) -> None:
    check(record(tmp_path, seed, 4 * TRANSACTIONS), tmp_path, SOAK_SEEDS)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("octets", "payload file is .* octets short|payloads differ"),
        ("names", "payload file .* is gone"),
        ("log", "transactions were acknowledged"),
    ],
)
def test_a_sync_that_is_left_out_is_found(tmp_path: Path, fault: str, found: str) -> None:
    run = record(tmp_path, 1, 6, fault)
    with pytest.raises((AssertionError, TumplineError), match=found):
        list(cut_everywhere(run, tmp_path, ()))
