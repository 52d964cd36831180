"""The simulated disk: answers come when writes are synced, and a crash undoes a last part of what was not."""

import asyncio
from collections.abc import Callable
from random import Random

from tumpline.machines.storage import Add, AddResult, Load, Operation, PutState, Results
from tumpline.testing.conformance.stores import QUEUE, stored_bundle
from tumpline.testing.lossy_store import LossyStore


class Disk:
    """A lossy store in virtual time that notes its answers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.answers: list[tuple[float, Results | None]] = []
        self.store = LossyStore(self.after, 0.5)
        self.store.open()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.due.append((self.now + delay_s, action))

    def run(self, until: float) -> None:
        while self.due and self.due[0][0] <= until:
            self.now, action = self.due.pop(0)
            action()
        self.now = until

    def submit(self, *operations: Operation) -> None:
        self.store.submit(operations, lambda results, _error: self.answers.append((self.now, results)))


def test_answers_only_what_is_synced() -> None:
    disk = Disk()
    disk.submit(Add(stored_bundle(1)))
    disk.run(0.2)
    disk.submit(Load(QUEUE, 0, 9))
    disk.run(0.49)
    assert disk.answers == []
    disk.run(1)
    assert disk.answers == [(0.5, [AddResult.STORED]), (0.7, [[stored_bundle(1)]])]


def test_a_crash_keeps_all_that_is_synced_and_a_first_part_of_the_rest() -> None:
    survivors = set()
    for seed in range(40):
        disk = Disk()
        for seq in (1, 2):
            disk.submit(Add(stored_bundle(seq)), PutState("s", str(seq), b""))
        disk.run(0.6)
        for seq in (3, 4, 5):
            disk.submit(Add(stored_bundle(seq)), PutState("s", str(seq), b""))
        disk.store.crash(Random(seed))
        recovered = disk.store.reopen()
        disk.run(9)
        assert len(disk.answers) == 2, "what was lost was answered"
        held = recovered.bundles
        assert recovered.last_seq == held
        assert sorted(disk.store.state("s")) == [str(seq) for seq in range(1, held + 1)]
        assert disk.store.octets == sum(stored_bundle(seq).length for seq in range(1, held + 1)) == recovered.octets
        survivors.add(held)
    assert survivors == {2, 3, 4, 5}


def test_a_new_life_is_not_disturbed_by_the_syncs_of_the_last() -> None:
    disk = Disk()
    disk.submit(Add(stored_bundle(1)))
    disk.run(0.3)
    disk.store.crash(Random(1))
    disk.submit(Add(stored_bundle(2)))
    disk.run(0.6)
    assert disk.answers == []
    disk.run(0.8)
    assert disk.answers == [(0.8, [AddResult.STORED])]


def test_closing_syncs() -> None:
    disk = Disk()
    disk.submit(Add(stored_bundle(1)))
    asyncio.run(disk.store.close())
    assert disk.answers == [(0.0, [AddResult.STORED])]
    assert disk.store.reopen().bundles == 1
