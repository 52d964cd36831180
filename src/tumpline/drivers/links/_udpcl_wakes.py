"""One timer of the loop for very many deadlines, most of which move before they come."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Sleeper(Protocol):
    """What has a deadline."""

    wake_at: float | None  # the one valid entry here; None: none


Of = TypeVar("Of", bound=Sleeper)


class Wakes(Generic[Of]):
    """`woken` is called with each whose time has come, at that time or a little before a later one that was set since: it
    looks for itself, and sets the next."""

    def __init__(self, woken: Callable[[Of, float], None]) -> None:
        self._woken = woken
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Of]] = []
        self._numbers = itertools.count()  # of two with the same time, the first
        self._timer: asyncio.TimerHandle | None = None

    def set(self, sleeper: Of, at: float) -> None:
        """Wake it then, if not before. One that has an earlier wake keeps it: moving deadlines away costs nothing."""
        if sleeper.wake_at is not None and sleeper.wake_at <= at:
            return
        sleeper.wake_at = at
        heapq.heappush(self._heap, (at, next(self._numbers), sleeper))
        if self._heap[0][2] is sleeper:
            self._arm()

    def close(self) -> None:
        """Wake nobody. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0][0], self._wake) if self._heap else None

    def _wake(self) -> None:
        self._timer = None
        now = self._loop.time()
        due: list[Of] = []
        while self._heap and self._heap[0][0] <= now:
            at, _, sleeper = heapq.heappop(self._heap)
            if sleeper.wake_at == at:
                sleeper.wake_at = None
                due.append(sleeper)
        for each in due:
            self._woken(each, now)
        self._arm()
