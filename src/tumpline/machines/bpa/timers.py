"""Deadlines by name: setting one again moves it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count

Action = Callable[[float], None]


class Timers:
    """A heap of deadlines in the caller's seconds. Each key has at most one."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._actions: dict[Hashable, tuple[float, int, Action]] = {}
        self._order = count()

    def set(self, key: Hashable, when: float, action: Action) -> None:
        """Call `action(now)` once `when` has come; replaces the deadline that `key` had."""
        number = next(self._order)
        self._actions[key] = (when, number, action)
        heapq.heappush(self._heap, (when, number, key))

    def set_earlier(self, key: Hashable, when: float, action: Action) -> None:
        """As `set`, unless `key` has an earlier deadline already."""
        held = self._actions.get(key)
        if held is None or when < held[0]:
            self.set(key, when, action)

    def cancel(self, key: Hashable) -> None:
        self._actions.pop(key, None)

    def is_set(self, key: Hashable) -> bool:
        return key in self._actions

    def next(self) -> float | None:
        """The earliest deadline."""
        heap = self._heap
        while heap:
            when, number, key = heap[0]
            held = self._actions.get(key)
            if held is not None and held[1] == number:
                return when
            heapq.heappop(heap)
        return None

    def fire(self, now: float) -> None:
        """Carry out everything due; what an action sets anew for `now` or earlier waits for the next call."""
        due: list[Action] = []
        while (when := self.next()) is not None and when <= now:
            due.append(self._actions.pop(heapq.heappop(self._heap)[2])[2])
        for action in due:
            action(now)
