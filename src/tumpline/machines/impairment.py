"""One direction of a link that misbehaves as real ones do: it delays, loses, doubles, overtakes, corrupts, and is slow.

A frame that comes first passes a transmitter of `rate_bps` before which at most `queue_octets` wait (tail drop), then the
medium, where it may be lost, then the way of `delay_s`. What goes in comes out, is lost, is dropped or is still held: the
counters say which. `Line` decides times; `ImpairedLink` holds the frames until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import cos, log, pi, sqrt
from operator import itemgetter

from tumpline.errors import ConfigError

# Memory that the frames of one direction may take: a second of 1 Gbit/s. More is dropped, and counted.
HELD_OCTETS_MOST = 128 << 20
# What Python needs for a frame beside its octets (bytes, tuple, float).
FRAME_COST_OCTETS = 160
DELAY_S_MOST = 86_400.0  # the far side of the solar system is five hours away
QUEUE_OCTETS = 1_000_000

Chance = Callable[[], float]  # uniform in [0, 1)


class Jitter(StrEnum):
    """How delays spread around `delay_s`."""

    UNIFORM = "uniform"  # evenly over delay_s - jitter_s ... delay_s + jitter_s
    NORMAL = "normal"  # jitter_s is the standard deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """What a direction does to frames. Raises: ConfigError, each problem as `key: what is wrong; what to write`."""

    delay_s: float = 0.0
    jitter_s: float = 0.0  # never makes a delay negative; frames keep their order all the same
    jitter: Jitter = Jitter.UNIFORM
    loss: float = 0.0  # share of frames, 0 ... 1, as all shares below
    duplicate: float = 0.0  # come twice; the second one needs its time on the line like any other
    reorder: float = 0.0  # do not wait for the delay, and so overtake those that do
    corrupt: float = 0.0  # have one bit flipped
    rate_bps: float | None = None  # of frames without preamble and checksum; None: as fast as they come
    queue_octets: int = QUEUE_OCTETS  # may wait for the line; one that finds it idle never waits

    def __post_init__(self) -> None:
        problems = [
            f"{name}: {value} is no share; write 0 to 1, or 0 % to 100 %"
            for name in ("loss", "duplicate", "reorder", "corrupt")
            if not 0.0 <= (value := getattr(self, name)) <= 1.0
        ]
        problems += [
            f"{name}: {value} s is no such time; write 0 s to {DELAY_S_MOST:.0f} s"
            for name, value in (("delay", self.delay_s), ("jitter", self.jitter_s))
            if not 0.0 <= value <= DELAY_S_MOST
        ]
        if self.rate_bps is not None and not self.rate_bps >= 1:
            problems.append("rate: carries nothing; write for example 10 Mbit/s, or leave it out for no limit")
        if self.queue_octets < 0:
            problems.append("queue: less than nothing; write for example 100 kB")
        if self.reorder and not self.delay_s:
            problems.append("reorder: nothing can be overtaken without a delay; write for example delay: 20 ms")
        if problems:
            raise ConfigError(problems)

    @property
    def is_clear(self) -> bool:
        """Whether nothing befalls frames."""
        return self.rate_bps is None and not (
            self.delay_s or self.jitter_s or self.loss or self.duplicate or self.reorder or self.corrupt
        )


@dataclass(slots=True)
class Counters:
    """Frames of one direction: received + duplicated = carried + lost + dropped + held, at any time."""

    received: int = 0
    duplicated: int = 0
    carried: int = 0
    lost: int = 0  # on the medium, by chance
    dropped: int = 0  # the queue (or the memory) was full
    overtook: int = 0
    corrupted: int = 0
    received_octets: int = 0
    carried_octets: int = 0


class Line:
    """When what goes in at one end comes out at the other. It holds nothing but two times, which keep rate and order."""

    __slots__ = ("_delay", "_free_at", "_impairment", "_octets_per_s", "_random", "counts", "last_at")

    def __init__(self, impairment: Impairment, random: Chance) -> None:
        self._random = random
        self.counts = Counters()
        self.change(impairment, 0.0)

    def change(self, impairment: Impairment, now: float) -> None:
        """From now on this, with nothing under way: whoever holds something has to `plan` it again."""
        self._impairment = impairment
        self._octets_per_s = None if impairment.rate_bps is None else impairment.rate_bps / 8
        self._delay = self._jittered if impairment.jitter_s else lambda: impairment.delay_s
        self._free_at = now  # when the transmitter has sent all that was given to it
        self.last_at = now  # when the last one comes out that did not overtake

    def carry(self, octets: int, now: float) -> float | None:
        """Something of this length goes in now: when it comes out (before `last_at`: it overtakes), None if never."""
        impairment = self._impairment
        if self._is_full(octets, now):
            self.counts.dropped += 1
            return None
        sent_at = self._transmit(octets, now)
        # What is lost on the medium has taken its time on the line.
        if impairment.loss and self._random() < impairment.loss:
            self.counts.lost += 1
            return None
        if impairment.reorder and self._random() < impairment.reorder:
            return sent_at
        return self._travel(sent_at)

    def plan(self, octets: int, now: float) -> float:
        """When it comes out if nothing befalls it."""
        return self._travel(self._transmit(octets, now))

    def _is_full(self, octets: int, now: float) -> bool:
        if self._octets_per_s is None or self._free_at <= now:
            return False
        return (self._free_at - now) * self._octets_per_s + octets > self._impairment.queue_octets

    def _transmit(self, octets: int, now: float) -> float:
        if self._octets_per_s is None:
            return now
        self._free_at = max(self._free_at, now) + octets / self._octets_per_s
        return self._free_at

    def _travel(self, sent_at: float) -> float:
        self.last_at = max(self.last_at, sent_at + self._delay())
        return self.last_at

    def _jittered(self) -> float:
        impairment, random = self._impairment, self._random
        if impairment.jitter is Jitter.UNIFORM:
            spread = 2.0 * random() - 1.0
        else:  # Box and Muller; 1 - random() is never 0
            spread = sqrt(-2.0 * log(1.0 - random())) * cos(2.0 * pi * random())
        return max(0.0, impairment.delay_s + spread * impairment.jitter_s)


class ImpairedLink:
    """One direction: `receive` what goes in, send what is `due`, come again at `next_timeout()`."""

    def __init__(self, impairment: Impairment, random: Chance) -> None:
        self._random = random
        self._line = Line(impairment, random)
        self.impairment = impairment
        self.counts = self._line.counts
        # Each of these is in order of time: (when it comes out, frame).
        self._held: deque[_Held] = deque()
        self._overtaking: deque[_Held] = deque()
        self._held_octets = 0  # of both, with what Python needs for them
        self._ready: list[bytes] = []  # went in while nothing was to befall them, nothing lay before them
        self._ready_at = 0.0

    @property
    def held(self) -> int:
        """Frames that are on their way."""
        return len(self._ready) + len(self._held) + len(self._overtaking)

    def receive(self, frames: Sequence[bytes], now: float) -> None:
        """These go in, in this order. `now` is when they came, and may lie a little back, but never before the last."""
        self.counts.received += len(frames)
        self.counts.received_octets += sum(map(len, frames))
        if self.impairment.is_clear and not self._held and not self._overtaking:
            self._ready += frames
            self._ready_at = now
            return
        for frame in frames:
            self._put(frame, now)
            if self.impairment.duplicate and self._random() < self.impairment.duplicate:
                self.counts.duplicated += 1
                self._put(frame, now)

    def next_timeout(self) -> float | None:
        """When the next frame is due, None if none is on its way."""
        if self._ready:
            return self._ready_at
        heads = [queue[0][0] for queue in (self._held, self._overtaking) if queue]
        return min(heads, default=None)

    def due(self, now: float) -> list[bytes]:
        """The frames that come out by now, in order; they are not held any more."""
        out, self._ready = self._ready, []
        if self._held or self._overtaking:
            came = _until(self._held, now)
            if self._overtaking:
                came = sorted(came + _until(self._overtaking, now), key=itemgetter(0))
            frames = [frame for _, frame in came]
            self._held_octets -= sum(map(_cost, frames))
            out += frames
        self.counts.carried += len(out)
        self.counts.carried_octets += sum(map(len, out))
        return out

    def change(self, impairment: Impairment, now: float) -> None:
        """From now on this befalls frames. Those under way come out when planned, or earlier if they now would."""
        self.impairment = impairment
        self._line.change(impairment, now)
        under_way = sorted([*self._held, *self._overtaking], key=itemgetter(0))
        self._overtaking.clear()
        # Without this a backlog of hours would outlive the rate that made it.
        self._held = deque((min(at, self._line.plan(len(frame), now)), frame) for at, frame in under_way)

    def _put(self, frame: bytes, now: float) -> None:
        if self._held_octets + _cost(frame) > HELD_OCTETS_MOST:
            self.counts.dropped += 1
            return
        at = self._line.carry(len(frame), now)
        if at is None:
            return
        if self.impairment.corrupt and self._random() < self.impairment.corrupt:
            frame = _with_one_bit_flipped(frame, self._random())
            self.counts.corrupted += 1
        self._held_octets += _cost(frame)
        if at < self._line.last_at:
            self.counts.overtook += 1
            self._overtaking.append((at, frame))
        else:
            self._held.append((at, frame))


_Held = tuple[float, bytes]


def _cost(frame: bytes) -> int:
    return len(frame) + FRAME_COST_OCTETS


def _until(queue: deque[_Held], now: float) -> list[_Held]:
    came = []
    while queue and queue[0][0] <= now:
        came.append(queue.popleft())
    return came


def _with_one_bit_flipped(frame: bytes, where: float) -> bytes:
    octets = bytearray(frame)
    bit = int(where * len(frame) * 8)
    if octets:
        octets[bit // 8] ^= 1 << bit % 8
    return bytes(octets)
