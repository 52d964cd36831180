"""One timer of a machine whose deadline moves with nearly every turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `rings` on the event loop's thread: never late, but early at times; whoever is called looks again.

    Most turns move the deadline back, or change nothing. Then the timer that runs is good enough: to look again now and
    then is cheaper than a new timer each time.
    """

    def __init__(self, rings: Callable[[], None]) -> None:
        self._rings = rings
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float | None) -> None:
        """Ring at this time of the loop's clock, or before. None: there is no deadline; what is set may still ring."""
        timer = self._timer
        if at is None or (timer is not None and timer.when() <= at):
            return
        if timer is not None:
            timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._due)

    def cancel(self) -> None:
        """Do not ring until it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._rings()
