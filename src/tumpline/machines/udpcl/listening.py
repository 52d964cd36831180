"""Sender Listen: telling a peer that we take datagrams, and knowing until when it does (draft-ietf-dtn-udpcl, advertisement)."""

from __future__ import annotations

from typing import Final

INTERVALS_KEPT: Final = 3  # draft: the receiver forgets after three intervals
INTERVAL_S_LEAST: Final = 1.0  # draft: 1 to 60 s are recommended; what a peer says beyond is brought within
INTERVAL_S_MOST: Final = 3600.0


class PeerPresence:
    """What one peer said of itself."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until: float | None = None  # it listens until then, as far as we know

    def heard(self, interval_ms: int, now: float) -> None:
        """A Sender Listen came."""
        interval_s = min(max(interval_ms / 1000, INTERVAL_S_LEAST), INTERVAL_S_MOST)
        self.until = now + INTERVALS_KEPT * interval_s

    def is_over(self, now: float) -> bool:
        """Whether it has just become silent; told once."""
        if self.until is None or now < self.until:
            return False
        self.until = None
        return True


class Repeating:
    """Something sent at the end of each interval; an interval of 0: never."""

    __slots__ = ("_interval_s", "due_at")

    def __init__(self, interval_s: float, first_at: float) -> None:
        self._interval_s = interval_s
        self.due_at = first_at if interval_s else None

    def is_due(self, now: float) -> bool:
        """Whether it is to be sent now; then the next interval begins."""
        if self.due_at is None or now < self.due_at:
            return False
        self.due_at = now + self._interval_s
        return True

    def postpone(self, now: float) -> None:
        """Something else was sent that does as well."""
        if self.due_at is not None:
            self.due_at = now + self._interval_s
