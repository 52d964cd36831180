"""When a session must say something, and when silence has lasted too long (RFC 9174 §5.1.1, §6.2)."""

from __future__ import annotations

# Our KEEPALIVE leaves up to this part of the interval early: sessions drift apart, and the peer's patience is not tried.
EARLY = 0.1


class Upkeep:
    """The clockwork of one session. Times are those of the session's clock, in seconds."""

    __slots__ = ("_every_s", "_idle_s", "_keepalive_at", "_silence_s", "active_at", "received_at")

    def __init__(self, idle_s: float) -> None:
        self.received_at = 0.0  # anything
        self.active_at = 0.0  # any message but KEEPALIVE, in either direction
        self._idle_s = idle_s
        self._silence_s = 0
        self._every_s = 0.0
        self._keepalive_at = 0.0

    @property
    def silence_s(self) -> int:
        """How long the peer may be silent; RFC 9174 §5.1.1: twice the Keepalive Interval. 0: for ever."""
        return self._silence_s

    def start(self, keepalive_s: int, chance: float, now: float) -> None:
        """The session is established; `chance` is in [0, 1)."""
        self.active_at = now
        self._silence_s = 2 * keepalive_s
        self._every_s = keepalive_s * (1 - EARLY * chance)
        self.said(now)

    def said(self, now: float) -> None:
        """Something was given to be written."""
        self._keepalive_at = now + self._every_s

    def keepalive_is_due(self, now: float) -> bool:
        """Whether the interval has elapsed without a word of ours; if so, the next one begins."""
        is_due = bool(self._every_s) and now >= self._keepalive_at
        if is_due:
            self.said(now)
        return is_due

    def is_silent(self, now: float) -> bool:
        """Whether the peer has not been heard for too long."""
        return bool(self._silence_s) and now >= self.received_at + self._silence_s

    def is_idle(self, now: float) -> bool:
        """Whether a session without transfers has lasted long enough."""
        return bool(self._idle_s) and now >= self.active_at + self._idle_s

    def keepalive_deadlines(self) -> list[float]:
        """None or one."""
        return [self._keepalive_at] if self._every_s else []

    def deadlines(self, is_live: bool) -> list[float]:
        """Of an established session, with transfers under way or not."""
        deadlines = self.keepalive_deadlines()
        if self._silence_s:
            deadlines.append(self.received_at + self._silence_s)
        if self._idle_s and not is_live:
            deadlines.append(self.active_at + self._idle_s)
        return deadlines
