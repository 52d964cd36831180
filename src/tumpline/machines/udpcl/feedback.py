"""ECN marks that came, and when the sender is told their counts (draft-ietf-dtn-udpcl, ECN Counts)."""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.wire.udpcl import EcnCounts

IMMEDIATE_S: Final = 0.02  # counts that changed are told so soon, and no sooner after the last time
PERIODIC_S: Final = 1.0  # and once more so much later: the first datagram may have been lost
REPEATS_MOST: Final = 3  # draft: endless identical repeats are suppressed
NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3  # RFC 3168 §5: the two low bits of TOS and traffic class
_MODULUS = 1 << 32


class Spacing(NamedTuple):
    """Seconds between two tellings."""

    immediate_s: float = IMMEDIATE_S
    periodic_s: float = PERIODIC_S


class Feedback:
    """Of one conversation: `count` what comes, send what `due` gives."""

    __slots__ = ("_counts", "_due_at", "_is_changed", "_repeats", "_spacing", "_told_at")

    def __init__(self, spacing: Spacing | None = None) -> None:
        self._spacing = spacing or Spacing()
        self._counts = [0, 0, 0, 0]  # by mark
        self._due_at: float | None = None
        self._is_changed = False
        self._repeats = 0
        self._told_at = float("-inf")

    @property
    def counts(self) -> EcnCounts:
        """What has come so far."""
        _, ect1, ect0, ce = self._counts
        return EcnCounts(ect0 % _MODULUS, ect1 % _MODULUS, ce % _MODULUS)

    def count(self, mark: int, datagrams: int, now: float) -> None:
        """So many unicast datagrams came with this mark."""
        self._counts[mark] += datagrams
        if not self._is_changed:
            self._is_changed = True
            self._due_at = max(now, self._told_at + self._spacing.immediate_s)

    def next_timeout(self) -> float | None:
        """When `due` has something to send."""
        return self._due_at

    def due(self, now: float) -> EcnCounts | None:
        """The counts, if the sender is to be told them now."""
        if self._due_at is None or now < self._due_at:
            return None
        self._repeats = 0 if self._is_changed else self._repeats + 1
        self._is_changed = False
        self._told_at = now
        self._due_at = now + self._spacing.periodic_s if self._repeats < REPEATS_MOST else None
        return self.counts
