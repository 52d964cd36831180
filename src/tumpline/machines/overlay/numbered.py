"""Messages of ours that must all arrive, in order, over a carrier that keeps the order but may lose some.

Every message has a number; the peer tells the last one that came in order. Since the carrier keeps the order, what comes
behind a gap says that something is lost: all is sent again from there (go back N). What is on its way is bounded by octets
and by a window of messages that grows while nothing is lost and shrinks when something was.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from tumpline.errors import RemoteProtocolError

# Of one peer, in the broker's queues beside packets. Four times as much is no faster (measured), and makes those wait.
FLIGHT_OCTETS_MOST: Final = 2 << 20
WINDOW_FIRST: Final = 8
WINDOW_MOST: Final = 64  # a member's queue holds 1000 messages, packets among them; what overflows is lost
WINDOW_LEAST: Final = 2
AGAIN_S_FIRST: Final = 3.0  # a whole window of long messages over 2.5 Mbit/s
AGAIN_S_LEAST: Final = 0.5  # a broker that swaps or syncs answers later than the round trips before
AGAIN_S_MOST: Final = 15.0


class BodyRange(NamedTuple):
    """Octets that the driver takes from the unit it knows as `token`, when the message goes."""

    token: int
    offset: int
    length: int


class Part(NamedTuple):
    """One record of a message, with what follows its head."""

    octets: int
    pieces: tuple[bytes | BodyRange, ...]
    token: int = -1  # the unit that the range is of: when that has ended, nobody waits for the part any more
    end: int = 0  # octets of the unit that have gone with this part


class Numbered(NamedTuple):
    """A message on its way."""

    sequence: int
    octets: int
    parts: list[Part]


class Flight:
    """What was sent and is not acknowledged, and when it is sent again."""

    def __init__(self, octets_most: int = FLIGHT_OCTETS_MOST) -> None:
        self.octets_most = octets_most
        self._messages: deque[Numbered] = deque()
        self._octets = 0
        self._next = 0  # of `_messages`: sent again from here, before anything new
        self._sent = 0  # number given last
        self._window = WINDOW_FIRST
        self._calm_window = WINDOW_MOST  # up to here the window grows with each acknowledgement
        self._grown = 0  # acknowledgements since the window grew last, above that
        self._timed: tuple[int, float] | None = None  # a message that went once only, and when
        self._smooth_s = 0.0  # round trip
        self._spread_s = 0.0
        self._again_s = AGAIN_S_FIRST
        self._heard = 0.0  # when something was acknowledged, or the first message of the flight went
        self._deadline = 0.0
        self.repeated = 0  # messages that were sent again, for people

    @property
    def is_empty(self) -> bool:
        """Everything has arrived."""
        return not self._messages

    @property
    def has_room(self) -> bool:
        """Whether a new message may go: nothing is to be repeated first, and the window is open."""
        count = len(self._messages)
        return self._next == count and count < self._window and self._octets < self.octets_most

    # ---- sending -----------------------------------------------------------------------------------------------------

    def append(self, parts: list[Part], now: float) -> Numbered:
        """A new message goes now."""
        assert self.has_room
        self._sent += 1
        message = Numbered(self._sent, sum(part.octets for part in parts), parts)
        if not self._messages:
            self._heard = now
            self._deadline = now + self._again_s
        if self._timed is None:
            self._timed = (message.sequence, now)
        self._messages.append(message)
        self._octets += message.octets
        self._next += 1
        return message

    def again(self) -> Numbered | None:
        """The next message that is to be repeated."""
        if self._next >= min(len(self._messages), self._window):
            return None
        message = self._messages[self._next]
        self._next += 1
        self.repeated += 1
        return message

    def rewind(self, now: float) -> None:
        """All is sent again (the carrier was interrupted, or a message could not be made)."""
        self._next = 0
        self.wait_anew(now)  # which of the two is answered cannot be told (Karn)

    def wait_anew(self, now: float) -> None:
        """The carrier took nothing for a while, so that nobody can have answered."""
        self._timed = None
        self._heard = now
        self._deadline = now + self._again_s

    # ---- the peer's answers ------------------------------------------------------------------------------------------

    def acknowledged(self, sequence: int, now: float) -> list[Numbered]:
        """All up to this number have come; those that were not known to. Raises: RemoteProtocolError."""
        if sequence > self._sent:
            raise RemoteProtocolError(f"message {sequence} was acknowledged, {self._sent} were sent")
        messages, arrived = self._messages, list[Numbered]()
        while messages and messages[0].sequence <= sequence:
            arrived.append(messages.popleft())
            self._octets -= arrived[-1].octets
        if arrived:
            self._next = max(self._next - len(arrived), 0)
            self._measure(sequence, now)
            self._grow(len(arrived))
            self._heard = now
            self._deadline = now + self._again_s
        return arrived

    def gap(self, now: float) -> None:
        """The peer has what was acknowledged, and something behind its successor."""
        if self._messages:
            self._shrink(len(self._messages) // 2)
            heard = self._heard
            self.rewind(now)
            self._heard = heard  # word of a gap is no progress

    def _measure(self, sequence: int, now: float) -> None:
        """RFC 6298 §2, with our bounds."""
        if self._timed is None or sequence < self._timed[0]:
            return
        round_trip_s, self._timed = now - self._timed[1], None
        if self._smooth_s:
            self._spread_s += (abs(round_trip_s - self._smooth_s) - self._spread_s) / 4
            self._smooth_s += (round_trip_s - self._smooth_s) / 8
        else:
            self._smooth_s, self._spread_s = round_trip_s, round_trip_s / 2
        self._again_s = min(max(self._smooth_s + 4 * self._spread_s, AGAIN_S_LEAST), AGAIN_S_MOST)

    def _grow(self, count: int) -> None:
        if self._window < self._calm_window:
            self._window = min(self._window + count, self._calm_window)
            return
        self._grown += count
        if self._grown >= self._window:
            self._window = min(self._window + 1, WINDOW_MOST)
            self._grown = 0

    def _shrink(self, window: int) -> None:
        self._window = self._calm_window = max(window, WINDOW_LEAST)
        self._grown = 0

    # ---- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When it is all sent again."""
        return self._deadline if self._messages else None

    def handle_timeout(self, now: float) -> None:
        """Nothing was heard for too long: send again, and wait longer next time (RFC 6298 §5)."""
        if self._messages and now >= self._deadline:
            heard = self._heard
            self._shrink(len(self._messages) // 4)
            self._again_s = min(self._again_s * 2, AGAIN_S_MOST)
            self.rewind(now)
            self._heard = heard

    def silent_s(self, now: float) -> float:
        """For how long messages have waited without a word."""
        return now - self._heard if self._messages else 0.0
