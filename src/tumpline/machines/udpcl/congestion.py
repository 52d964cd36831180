"""How fast data may go to one peer (RFC 8085 §3.1), by what it says of marks and arrivals (ECN Counts).

The counts tell how many marked datagrams came, and how many of them had met congestion. Compared with how many were sent,
and when, they also tell of losses and of how long an answer takes. The rate then grows while all is well, as DCTCP's (RFC
8257) it shrinks by half the share of marked datagrams, and by a third for losses. Where the answers end it falls by half a
second after second; a peer that never answers (RFC 7122 knows no answers) is sent to at `Pace.first_octets_s`.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from tumpline.wire.udpcl import EcnCounts

# Of the rate may go at once: timers wake a millisecond late, and a batch costs less than its parts.
BURST_S: Final = 0.008
FIXED_BURST_S: Final = 0.02  # of a rate that was configured: it is to be reached on a busy machine too
WAKE_S: Final = 0.001  # of the rate: no timer for less
GAIN: Final = 1 / 16  # RFC 8257 §3.3: of the share of marked datagrams
LOSS_FACTOR: Final = 0.7  # as CUBIC's (RFC 9438 §4.6)
GROWTH: Final = 0.03  # of the rate at each answer once it has been too fast
LAG_S_FIRST: Final = 0.1  # until the first answer
LAGS_S: Final = 10.0  # paths change: what was least is forgotten after one to two such spans
# After the least lag: the peer tells counts 20 ms apart, loops of busy machines are late themselves, and a queue fills.
LATE_S: Final = 0.06
STALL_S: Final = 1.0  # the peer tells its counts once a second at least
SAMPLES: Final = 512  # of how much was sent when
SAMPLE_S: Final = 0.01
_MODULUS = 1 << 32


class Pace(NamedTuple):
    """What bounds the rate, in octets a second."""

    fixed_octets_s: float | None = None  # said by whoever configured it: then nothing else counts
    first_octets_s: float = 1_250_000.0  # 10 Mbit/s
    least_octets_s: float = 10_000.0
    most_octets_s: float = 12.5e9


class Congestion:
    """Of one conversation. `allowance` before, `sent` after a batch; `answered` for each ECN Counts item."""

    def __init__(self, pace: Pace, now: float) -> None:
        self.rate_octets_s = pace.first_octets_s if pace.fixed_octets_s is None else pace.fixed_octets_s
        self.lost = 0  # datagrams that were not counted in time
        self.marked = 0  # datagrams that met congestion
        self.backoffs = 0
        self.doubts = 0  # how often it seemed that what was sent did not come
        self._pace = pace
        self._burst_s = BURST_S if pace.fixed_octets_s is None else FIXED_BURST_S
        self._credit = 0.0
        self._credit_at = now - self._burst_s
        self._sent = 0  # marked datagrams
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)  # when, and how many had been sent before
        self._base: int | None = None  # what the peer had counted of others before our first one
        self._came = 0
        self._ce = 0
        self._alpha = 1.0  # RFC 8257 §3.3: the first mark counts in full
        self._lag_s = LAG_S_FIRST  # the least of the last two spans
        self._lag_before_s = self._lag_least_s = float("inf")  # of the span before, and of the one that lasts
        self._lags_until = now
        self._arriving_octets_s = 0.0
        self._datagram_octets = 0.0  # of marked ones, on average of late
        self._is_doubling = True
        self._is_used = False  # as much was sent as was allowed, since the last answer
        self._held_until = now  # one back-off for what befell one flight
        self._answered_at: float | None = None
        self._unanswered_since: float | None = None

    # ---- pacing ------------------------------------------------------------------------------------------------------

    def allowance(self, now: float) -> int:
        """Octets that may go now."""
        self._check_stall(now)
        most = self.rate_octets_s * self._burst_s
        self._credit = min(most, self._credit + (now - self._credit_at) * self.rate_octets_s)
        self._credit_at = now
        return int(self._credit)

    def ready_at(self, octets: int) -> float:
        """When as much is allowed that a datagram of this length may go, in a batch that is worth a timer."""
        wanted = self.rate_octets_s * max(WAKE_S, min(octets / self.rate_octets_s, self._burst_s))
        return self._credit_at + max(0.0, wanted - self._credit) / self.rate_octets_s

    def sent(self, octets: int, datagrams: int, is_marked: bool, now: float) -> None:
        """A batch went."""
        self._credit -= octets
        self._is_used |= self._credit < self.rate_octets_s * self._burst_s / 2
        if not is_marked:
            return
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((now, self._sent))
        self._sent += datagrams
        self._datagram_octets += (octets / datagrams - self._datagram_octets) * (GAIN if self._datagram_octets else 1.0)
        if self._unanswered_since is None:
            self._unanswered_since = now

    # ---- answers -----------------------------------------------------------------------------------------------------

    def answered(self, counts: EcnCounts, now: float) -> None:
        """The peer told its counts."""
        total = sum(counts) % _MODULUS
        if self._base is None:  # the peer counts from 0, unless it knew us before
            self._base, self._ce = (0, 0) if total <= self._sent else ((total - self._sent) % _MODULUS, counts.ce)
        came = (total - self._base) % _MODULUS
        if came > self._sent:  # what we took for lost has come
            self.lost -= min(self.lost, came - self._sent)
            self._base, came = (total - self._sent) % _MODULUS, self._sent
        arrived, marked = came - self._came, (counts.ce - self._ce) % _MODULUS
        if arrived < 0 or marked > arrived:
            return  # an older answer that was overtaken
        self._came, self._ce = came, counts.ce
        if arrived:
            self._measure(arrived, now)
            self._answered_at, self._unanswered_since = now, None if came >= self._sent else now
            self._adapt(arrived, marked, now)

    def path_failed(self) -> None:
        """Datagrams of the size used so far do not pass any more: nothing is known of the path that they take now."""
        self._set_rate(min(self.rate_octets_s, self._pace.first_octets_s))

    def queue_full(self, now: float) -> None:
        """Our own interface's queue takes no more."""
        self._back_off(LOSS_FACTOR, now)

    def _measure(self, arrived: int, now: float) -> None:
        """How much arrives in a second; and how long ago as many had been sent as have come: a round trip, the peer's
        patience, and whatever waits in queues."""
        if self._answered_at is not None and now > self._answered_at:
            self._arriving_octets_s = arrived * self._datagram_octets / (now - self._answered_at)
        lag_s = now - next((at for at, sent in reversed(self._samples) if sent < self._came), now)
        if lag_s > 0:
            if now >= self._lags_until:
                self._lags_until, self._lag_before_s, self._lag_least_s = now + LAGS_S, self._lag_least_s, lag_s
            self._lag_least_s = min(self._lag_least_s, lag_s)
            self._lag_s = min(self._lag_least_s, self._lag_before_s)

    def _adapt(self, arrived: int, marked: int, now: float) -> None:
        self._alpha += GAIN * (marked / arrived - self._alpha) if (self.marked or marked) else 0.0
        self.marked += marked
        if self._is_late(now):
            self._back_off(max(0.5, min(LOSS_FACTOR, self._arriving_octets_s / self.rate_octets_s)), now)
        elif marked:
            self._back_off(1 - self._alpha / 2, now)
        elif self._is_used:
            self._grow()
        self._is_used = False

    def _is_late(self, now: float) -> bool:
        """Whether datagrams were not counted though they were sent long enough ago: they are lost, or wait in a queue that
        is about to overflow."""
        then = now - self._lag_s - LATE_S
        due = next((sent for at, sent in reversed(self._samples) if at <= then), 0)
        late = due - self._came
        if late <= 0:
            return False
        self.lost += late
        self.doubts += 1
        assert self._base is not None
        self._base = (self._base - late) % _MODULUS  # from here on they count as come
        self._came += late
        return True

    def _back_off(self, factor: float, now: float) -> None:
        self._is_doubling = False
        if now < self._held_until:
            return
        self._held_until = now + self._lag_s
        self._set_rate(max(self._pace.least_octets_s, self.rate_octets_s * factor))

    def _grow(self) -> None:
        """Never far beyond what arrives: what was sent but waits somewhere is no sign that more may go."""
        factor = 2.0 if self._is_doubling else 1 + GROWTH
        most = max(self._pace.first_octets_s, 2 * self._arriving_octets_s, self.rate_octets_s)
        self._set_rate(min(self._pace.most_octets_s, most, self.rate_octets_s * factor))

    def _set_rate(self, octets_s: float) -> None:
        """A rate that was configured stays, whatever the peer tells."""
        if self._pace.fixed_octets_s is None:
            self.backoffs += octets_s < self.rate_octets_s
            self.rate_octets_s = octets_s

    def _check_stall(self, now: float) -> None:
        """Nothing is answered though we send: where answers came before, we are slower and slower."""
        since = self._unanswered_since
        if since is None or now - since <= STALL_S + 2 * self._lag_s:
            return
        self.doubts += 1
        self._unanswered_since = self._held_until = now
        if self._answered_at is not None:
            self._back_off(0.5, now)
            self._is_doubling = True  # what stopped them may end as it began
