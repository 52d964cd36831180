"""Which counters of a sender have come: each is taken once (RFC 4303 §3.4.3)."""

from __future__ import annotations

from typing import Final

WINDOW: Final = 4096  # messages: so far may one be overtaken that took another way


class ReplayWindow:
    """A bit for each of the last counters; bit 0 is the highest that has come."""

    __slots__ = ("_bits", "_highest")

    def __init__(self) -> None:
        self._highest = -1
        self._bits = 0

    def may_take(self, counter: int) -> bool:
        """Whether it has not come yet; what is too old counts as come."""
        behind = self._highest - counter
        return behind < 0 or (behind < WINDOW and not self._bits >> behind & 1)

    def take(self, counter: int) -> None:
        """It has come, and its seal is sound: only now may anything change."""
        ahead = counter - self._highest
        if ahead <= 0:
            self._bits |= 1 << -ahead
        else:
            self._bits = (self._bits << ahead if ahead < WINDOW else 0) & _MASK | 1
            self._highest = counter


_MASK: Final = (1 << WINDOW) - 1
