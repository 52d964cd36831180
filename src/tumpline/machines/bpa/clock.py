"""Two times: the caller's monotonic seconds, and DTN time in milliseconds, which may be unknown."""

from __future__ import annotations

# A DTN time below this (September 2012) is no reading of a right clock: it is what `Clock` counts while none is known.
UNKNOWN_BELOW_MS = 400_000_000_000
# Smaller corrections are left to the next reading of each deadline.
STEP_MS = 100


class Clock:
    """Converts monotonic seconds to milliseconds on the scale that stored bundles are kept in.

    While the time of day is unknown (RFC 9171 §5.5: "the local node's clock is [not] known to be accurate"), the scale is
    the monotonic clock itself: lifetimes then count residence and Bundle Age alone.
    """

    __slots__ = ("_offset_ms", "known")

    def __init__(self) -> None:
        self.known = False
        self._offset_ms = 0.0

    def set(self, dtn_ms: int | None, now: float) -> bool:
        """`dtn_ms` is the DTN time at `now`, or None: not known (a scale once set is kept, as the best guess).

        Returns whether that moved the scale by enough to look at deadlines again."""
        was_known, self.known = self.known, dtn_ms is not None
        if dtn_ms is None:
            return was_known
        before_ms, self._offset_ms = self._offset_ms, dtn_ms - now * 1000
        return not was_known or abs(self._offset_ms - before_ms) >= STEP_MS

    def ms(self, now: float) -> int:
        """Milliseconds on the node's scale: DTN time if `known`."""
        return int(now * 1000 + self._offset_ms)

    def monotonic(self, ms: int) -> float:
        """The caller's seconds at which the scale reads `ms`."""
        return (ms - self._offset_ms) / 1000
