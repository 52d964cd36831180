"""Frames that were in the air of one place a moment ago."""

from __future__ import annotations

from typing import Final

# Longer than a frame takes to the session and back, also through a slow serial line; sequence numbers come round later.
RECENT_S: Final = 2.0
RECENT_MOST: Final = 1024  # frames: more than any channel carries in this time


class Recent:
    """A bounded set that forgets."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}  # in the order in which they are forgotten

    def add(self, frame: bytes, now: float) -> None:
        """It was in the air."""
        self._until.pop(frame, None)
        self._until[frame] = now + RECENT_S
        while len(self._until) > RECENT_MOST or next(iter(self._until.values())) <= now:
            del self._until[next(iter(self._until))]

    def __len__(self) -> int:
        return len(self._until)

    def has(self, frame: bytes, now: float) -> bool:
        """Whether it was there within RECENT_S."""
        return self._until.get(frame, now) > now
