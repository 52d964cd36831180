"""Neighbours, their paths, and the bundles under way to them (RFC 9171 §5.4)."""

from __future__ import annotations

from collections.abc import Callable

from tumpline.machines.bpa.clock import UNKNOWN_BELOW_MS
from tumpline.machines.bpa.contacts import NEVER, Reach
from tumpline.machines.bpa.core import Core, retain_payload
from tumpline.machines.bpa.queues import Consumer, Entry, Queues
from tumpline.machines.bpa.rewrite import Rewriter, decode_stored
from tumpline.machines.effects import Forward, PathInfo, Unit
from tumpline.wire.bundle7 import BundleHead
from tumpline.wire.eid import Eid

# A paced path is filled this far ahead of its rate: one wake-up then moves many small bundles of a fast contact.
PACE_AHEAD_S = 0.02
# Nothing is offered to a window that carries no more than this: no bundle worth sending is shorter.
LEAST_VOLUME_OCTETS = 32

# (the entry, its head, what fits now, what the path takes at most, now) -> nothing
TooLong = Callable[["Neighbour", Entry, BundleHead, int, int, float], None]


class Path:
    """One way to a neighbour: a session, or a datagram address."""

    __slots__ = (
        "_closes_at",
        "_octets_s",
        "ending",
        "free_at",
        "in_flight",
        "info",
        "neighbour",
        "octets",
        "previous",
        "reach",
        "resume_at",
        "retry_s",
    )

    def __init__(self, info: PathInfo, neighbour: Neighbour | None, previous: str, retry_s: float) -> None:
        self.info = info
        self.neighbour = neighbour  # whom bundles may be handed to over it; None: it makes no route
        self.previous = previous  # whom bundles that come over it come from, "" if that is not known
        self.in_flight: dict[int, Entry] = {}
        self.octets = 0  # of those
        self.reach: Reach = NEVER  # until the contact plan was asked
        self.ending = False  # its window closed; the link was told to end it
        self.resume_at = 0.0  # not before: the peer asked for a pause
        self.retry_s = retry_s  # the next pause
        self.free_at = 0.0  # when the contact's rate has room again
        self._octets_s: float | None = None
        self._closes_at = 0.0

    @property
    def is_usable(self) -> bool:
        """Within the neighbour's contact windows."""
        return self.reach.is_open and not self.ending

    @property
    def is_paced(self) -> bool:
        return self._octets_s is not None

    def set_reach(self, reach: Reach, closes_at: float, now: float) -> None:
        """What the contact plan says about it from now on."""
        self.reach = reach
        self._octets_s = None if reach.rate_bps is None else reach.rate_bps / 8
        self._closes_at = closes_at
        self.free_at = max(self.free_at, now) if self.is_paced else 0.0

    def room(self, now: float) -> int:
        """The longest bundle that may be offered now: what the peer takes, or what the window still carries."""
        if self._octets_s is None:
            return self.info.mru_octets
        volume = self._octets_s * (self._closes_at - max(now, self.free_at))
        return max(0, min(self.info.mru_octets, int(volume)))

    def spend(self, octets: int, now: float) -> None:
        """A bundle of this length takes its time at the contact's rate."""
        assert self._octets_s is not None
        self.free_at = max(self.free_at, now) + octets / self._octets_s

    def pause(self, now: float, longest_s: float) -> None:
        """Back off: once for all units that were under way together, longer each time in a row."""
        if now >= self.resume_at:
            self.resume_at = now + self.retry_s
            self.retry_s = min(self.retry_s * 2, longest_s)


class Neighbour(Consumer):
    """A node that bundles can be handed to."""

    def __init__(self, eid: Eid, core: Core, queues: Queues, rewriter: Rewriter, too_long: TooLong) -> None:
        super().__init__(str(eid), core)
        self.eid = eid
        self.names = {eid}  # and its aliases
        self.paths: list[Path] = []  # newest first: of two sessions with one peer the older one may be half dead
        self._core = core
        self._queues = queues
        self._rewriter = rewriter
        self._too_long = too_long

    @property
    def is_up(self) -> bool:
        """Whether a route over it can be taken now (a path that pauses is still the way to go)."""
        return any(path.is_usable for path in self.paths)

    @property
    def is_hungry(self) -> bool:
        """Nothing is read for a neighbour that is not up."""
        return super().is_hungry and self.is_up

    def pump(self, now: float) -> None:
        """Offer what is ready to the paths, as far as their windows allow, and read on."""
        for path in self.paths:
            if not (self.ready or self.scouts):
                break
            if path.is_usable and now >= path.resume_at:
                if self.scouts:
                    self.send_scouts()
                self._fill(path, now)
        self._queues.pull(self)

    def _fill(self, path: Path, now: float) -> None:
        now_ms = self._core.clock.ms(now)
        ready, held, in_flight, rewrite = self.ready, self._queues.held, path.in_flight, self._rewriter.head
        most_bundles, most_octets = self._most_bundles, self._most_octets
        room = path.room(now)
        paced = path.is_paced
        units: list[Unit] = []
        while ready and len(in_flight) < most_bundles and path.octets < most_octets:
            if paced and not self._may_go(path, now):
                break
            entry = ready.popleft()
            bundle, head, _, octets = entry
            self.ready_octets -= octets
            seq = bundle.seq
            if held.get(seq) is not entry:
                continue  # deleted meanwhile
            if head is None:
                head = decode_stored(bundle.head)
            residence_ms = now_ms - bundle.received_ms
            if residence_ms > UNKNOWN_BELOW_MS:
                residence_ms = 0  # it came before the time of day was known: Expiry is about to put that right
            out = rewrite(head, residence_ms)
            length = octets + len(out) - len(bundle.head)
            if length > room:
                self._too_long(self, entry, head, room, path.info.mru_octets, now)
                continue
            if paced:
                path.spend(length, now)
                room = path.room(now)
            retain_payload(bundle.payload)
            in_flight[seq] = entry
            path.octets += octets
            units.append(Unit(seq, out, bundle.payload, bundle.tail))
        if units:
            self._core.effects.append(Forward(path.info.path, units))

    def _may_go(self, path: Path, now: float) -> bool:
        """Whether the contact's rate has room; a timer is set for when it has. A window used up stays so."""
        if path.room(now) < LEAST_VOLUME_OCTETS:
            return False
        if path.free_at <= now + PACE_AHEAD_S:
            return True
        self._core.timers.set(("pace", path.info.path), path.free_at, self.pump)
        return False
