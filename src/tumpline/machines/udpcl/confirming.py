"""Answers to the probes of others: what came with one nonce is confirmed when no more has come for as long as was asked."""

from __future__ import annotations

from typing import Final

from tumpline.wire.udpcl import Confirmation, Probe
from tumpline.wire.udpcl_range import NUMBERS_MOST, intervals_of, write_range

CONFIRM_DELAY_MS_MOST: Final = 60_000  # draft: the limit is at least 60 s
NONCES_MOST: Final = 4  # of one conversation; draft: at least one


class Confirming:
    """Of one conversation. Probes that ask for too much are passed over, as the draft has it."""

    def __init__(self) -> None:
        self.ignored = 0
        self._came: dict[int, set[int]] = {}
        self._deadlines: dict[int, float] = {}

    def receive(self, probe: Probe, now: float) -> None:
        """A probe came, perhaps once more: that too begins the delay anew."""
        numbers = self._came.get(probe.nonce, set())
        is_too_much = len(self._came) == NONCES_MOST and probe.nonce not in self._came
        # Half as many numbers as a range has room for: even with a gap between all of them it is not too long.
        is_too_much |= len(numbers) == NUMBERS_MOST // 2 and probe.sequence not in numbers
        if is_too_much or probe.confirm_delay_ms > CONFIRM_DELAY_MS_MOST:
            self.ignored += 1
            return
        self._came[probe.nonce] = numbers | {probe.sequence}
        self._deadlines[probe.nonce] = now + probe.confirm_delay_ms / 1000

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to send."""
        return min(self._deadlines.values(), default=None)

    def handle_timeout(self, now: float) -> list[Confirmation]:
        """The confirmations that are due. Then they are forgotten: the next ones tell what came after."""
        due = [nonce for nonce, deadline in self._deadlines.items() if deadline <= now]
        for nonce in due:
            del self._deadlines[nonce]
        return [Confirmation(nonce, write_range(intervals_of(sorted(self._came.pop(nonce))))) for nonce in due]
