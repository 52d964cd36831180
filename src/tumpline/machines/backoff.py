"""Capped exponential back-off with jitter: how long to wait before trying again. Chance is an argument."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 0.25  # a peer that restarts is back within a moment: look soon, once
CAP_S = 30.0  # a contact of some minutes must not be missed because we slept over its start
GROWTH = 2.0


class Backoff:
    """Delays that double from `first_s` up to `cap_s`.

    Each is spread over the upper half of its range, so that peers which failed together do not come back together, and
    none ever retries at once.
    """

    __slots__ = ("_random", "attempts", "cap_s", "first_s")

    def __init__(self, random: Callable[[], float], first_s: float = FIRST_S, cap_s: float = CAP_S) -> None:
        if not 0 < first_s <= cap_s:
            raise ValueError(f"back-off needs 0 < first_s <= cap_s, not {first_s} and {cap_s}")
        self._random = random
        self.first_s = first_s
        self.cap_s = cap_s
        self.attempts = 0  # failures in a row

    def next_delay_s(self) -> float:
        """One more attempt has failed: seconds to wait before the next."""
        # The exponent is bounded: 2.0 ** 1024 overflows after a long night without the peer.
        ceiling_s = min(self.cap_s, self.first_s * GROWTH ** min(self.attempts, 64))
        self.attempts += 1
        return ceiling_s * (0.5 + 0.5 * self._random())

    def reset(self) -> None:
        """An attempt has succeeded: the next failure waits `first_s` again."""
        self.attempts = 0
