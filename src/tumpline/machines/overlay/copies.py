"""Copies of one packet that come by several ways, told from one that its sender repeats.

Of each packet we count how often it came by each way, and how often it was delivered. It is delivered when it has come by
this way more often than it was delivered at all: the copy by another way finds its repetition delivered already, a true
repetition does not.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from hashlib import blake2b
from typing import Final

MEMORY_S: Final = 2.0  # copies that took different ways are milliseconds apart, or a broker's hiccup
PACKETS_MOST: Final = 65_536  # the old ones are forgotten early; 8k a second for two seconds are far fewer


class Way(IntEnum):
    """How a packet came."""

    FLOOD = 0
    V1_FROM = 1
    V1_TO = 2
    V0_FROM = 3
    V0_TO = 4


class _Seen:
    __slots__ = ("at", "counts", "delivered")

    def __init__(self) -> None:
        self.at = 0.0
        self.counts = [0] * len(Way)
        self.delivered = 0


class Copies:
    """What came within the last `MEMORY_S`."""

    def __init__(self) -> None:
        # The one touched last at the end. In a plain dict, looking for the first one walks over all that were removed before it.
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self.dropped = 0

    def is_new(self, packet: bytes | memoryview, way: Way, now: float) -> bool:
        """Whether to deliver it."""
        digest = blake2b(packet, digest_size=12).digest()
        seen = self._seen.pop(digest, None)
        if seen is None or seen.at + MEMORY_S <= now:
            seen = _Seen()
        self._seen[digest] = seen
        seen.at = now
        seen.counts[way] += 1
        if seen.counts[way] <= seen.delivered:
            self.dropped += 1
            return False
        seen.delivered += 1
        if len(self._seen) > PACKETS_MOST:
            self._seen.popitem(last=False)
        return True

    def next_timeout(self) -> float | None:
        """When the oldest can be forgotten; nothing comes of it but memory."""
        first = next(iter(self._seen.values()), None)
        return None if first is None else first.at + MEMORY_S

    def handle_timeout(self, now: float) -> None:
        """Forget what is old."""
        while (at := self.next_timeout()) is not None and at <= now:
            self._seen.popitem(last=False)

    def __len__(self) -> int:
        return len(self._seen)
