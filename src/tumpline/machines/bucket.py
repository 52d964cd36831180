"""How often something may happen: so many times at once, so many a second in the long run."""

from __future__ import annotations


class Bucket:
    """A token bucket. `most` is what patience may add up to, `first` what there is of it at the beginning."""

    __slots__ = ("_at", "_left", "_most", "_per_s")

    def __init__(self, first: float, most: float, per_s: float, now: float) -> None:
        self._left = first
        self._most = most
        self._per_s = per_s
        self._at = now

    def take(self, now: float) -> bool:
        """Once more; False: that is too often."""
        self._left = self._after(now)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def is_full(self, now: float) -> bool:
        """Whether nothing was taken lately: a new bucket would be worth as much."""
        return self._after(now) >= self._most

    def _after(self, now: float) -> float:
        return min(self._most, self._left + (now - self._at) * self._per_s)
