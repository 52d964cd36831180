"""The store of a simulated node: a disk in virtual time, whose last writes a crash may undo."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random

from tumpline.drivers.stores._api import Done
from tumpline.drivers.stores._files import FileWriter
from tumpline.drivers.stores._sink import BundleSink
from tumpline.drivers.stores.memory import MemoryStore
from tumpline.machines.storage import Operation, Recovered, Results

After = Callable[[float, Callable[[], None]], object]  # (delay in seconds, what to call then)


class LossyStore:
    """Transactions become durable, in order, `sync_s` after they were submitted; only then are they answered.

    The disk is a MemoryStore that holds what is synced; what is not yet synced waits in a queue. A crash keeps some
    first part of the queue, as a log on a real disk would, and answers none of it.
    """

    durable = True

    def __init__(self, after: After, sync_s: float) -> None:
        self._after = after
        self.sync_s = sync_s
        self._disk = MemoryStore()
        self._unsynced: deque[tuple[Sequence[Operation], Done]] = deque()
        self._life = 0  # crashes so far: a sync that was under way in an earlier life does nothing

    def open(self) -> Recovered:
        return self._disk.open()

    def reopen(self) -> Recovered:
        """What the node finds when it starts again."""
        return self._disk.open()

    def submit(self, operations: Sequence[Operation], done: Done) -> None:
        self._unsynced.append((operations, done))
        life = self._life
        self._after(self.sync_s, lambda: self._sync(life))

    def crash(self, random: Random) -> None:
        """Power off now: of what was not synced a random first part survives, unanswered; the rest never was."""
        self._life += 1
        for _ in range(random.randint(0, len(self._unsynced))):
            operations, _ = self._unsynced.popleft()
            self._disk.submit(operations, _nobody_hears)
        self._unsynced.clear()

    def sink(self, octets: int) -> BundleSink:
        return self._disk.sink(octets)

    def writer(self) -> FileWriter:
        return self._disk.writer()

    async def close(self) -> None:
        """Sync what was submitted; the disk keeps it for `reopen`."""
        while self._unsynced:
            self._sync(self._life)
        self._life += 1

    def state(self, service: str) -> dict[str, bytes]:
        """The durable records of a service, for checkers."""
        return self._disk.state(service)

    @property
    def octets(self) -> int:
        """Durable octets of encoded bundles, for checkers."""
        return self._disk.octets

    def _sync(self, life: int) -> None:
        if life == self._life and self._unsynced:
            operations, done = self._unsynced.popleft()
            self._disk.submit(operations, done)


def _nobody_hears(results: Results | None, error: Exception | None) -> None:
    """Whoever asked is gone."""
