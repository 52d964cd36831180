"""The heap of events, the clock and the streams of chance."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tumpline.testing.world.chart import mermaid
from tumpline.testing.world.checks import BrokenPromiseError, Promises

if TYPE_CHECKING:
    from tumpline.testing.world.node import SimNode

Action = Callable[[], None]

# A turn of one node that needs this many events at one instant is a loop that never ends.
MOST_EVENTS_AT_ONE_INSTANT = 100_000
# What the chart of a failure shows: the last so many messages and facts.
CHART_LINES = 80


class World:
    """One simulated network. `now` is virtual seconds; nothing ever sleeps."""

    def __init__(self, seed: int, *, dtn_epoch_ms: int = 800_000_000_000) -> None:
        self.seed = seed
        self.now = 0.0
        self.nodes: dict[str, SimNode] = {}
        self.promises = Promises(self)
        self.story: deque[tuple[float, str, str, str]] = deque(maxlen=CHART_LINES)
        self._dtn_epoch_ms = dtn_epoch_ms
        self._heap: list[tuple[float, int, Action]] = []
        self._sequence = 0
        self._digest = hashlib.sha256()
        self._instant_events = 0

    # ---- time and chance --------------------------------------------------------------------------------------------

    def dtn_ms(self) -> int:
        """The time of day of this world, as DTN time."""
        return self._dtn_epoch_ms + int(self.now * 1000)

    def chance(self, purpose: str) -> random.Random:
        """A stream of chance of its own for each purpose: what one draws does not shift what another draws."""
        return random.Random(f"{self.seed}/{purpose}")

    def at(self, when: float, action: Action) -> None:
        """Do this then. Raises: BrokenPromiseError if that is in the past."""
        if when < self.now:
            raise self.broken(f"something was set for {when:.6f}, which is before now ({self.now:.6f})")
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, action))

    def after(self, delay_s: float, action: Action) -> None:
        """Do this so many seconds from now."""
        self.at(self.now + delay_s, action)

    # ---- running ----------------------------------------------------------------------------------------------------

    def run(self, until: float) -> None:
        """Live through everything up to this time, checking every step."""
        while self._heap and self._heap[0][0] <= until:
            when, _, action = heapq.heappop(self._heap)
            self._instant_events = self._instant_events + 1 if when == self.now else 0
            if self._instant_events > MOST_EVENTS_AT_ONE_INSTANT:
                raise self.broken("time stands still: events follow each other without end at one instant")
            self.now = when
            action()
            self.promises.check()
        self.now = max(self.now, until)

    def run_until(self, done: Callable[[], bool], most_s: float) -> bool:
        """Live on until `done()`, at most so many seconds. Whether it came true."""
        end = self.now + most_s
        while not done():
            if not self._heap or self._heap[0][0] > end:
                self.now = max(self.now, end)
                return done()
            self.run(self._heap[0][0])
        return True

    # ---- telling ----------------------------------------------------------------------------------------------------

    def tell(self, sender: str, receiver: str, what: str) -> None:
        """Something happened between (or, with both the same, in) nodes: it goes into the digest and the chart."""
        self.story.append((self.now, sender, receiver, what))
        self._digest.update(f"{self.now:.9f} {sender} {receiver} {what}\n".encode())

    @property
    def digest(self) -> str:
        """What happened so far, in one number: equal for equal seeds."""
        return self._digest.hexdigest()

    def broken(self, what: str) -> BrokenPromiseError:
        """The error to raise when something promised was broken: it shows seed and sequence chart."""
        return BrokenPromiseError(f"seed {self.seed}, at {self.now:.3f} s: {what}\n\n{mermaid(self.story)}")
