"""How large a segment should be, so that its acknowledgement takes about as long as we like (RFC 9174 §3.6)."""

from __future__ import annotations


class SegmentSizer:
    """Follows the time from giving a segment to the driver until its acknowledgement.

    Acknowledgements of END segments are no samples: they wait for the receiver's commit."""

    __slots__ = ("_least", "_most", "_target_s", "octets")

    def __init__(self, first: int, least: int, most: int, target_s: float) -> None:
        """All sizes in octets; `most` (the peer's MRU among others) wins over `least`."""
        self._most = most
        self._least = min(least, most)
        self._target_s = target_s
        self.octets = min(max(first, self._least), most)

    def sample(self, octets: int, elapsed_s: float) -> None:
        """A segment of this size was acknowledged after this time.

        One sample at most doubles or halves the size: times jump when a queue builds up or drains."""
        factor = 2.0 if elapsed_s <= 0 else min(2.0, max(0.5, self._target_s / elapsed_s))
        if factor > 1 and octets * 2 < self.octets:
            return  # a short segment proves nothing about longer ones
        self.octets = int(min(self._most, max(self._least, self.octets * factor)))
