"""Neighbours, their paths, and the bundles under way to them (RFC 9171 §5.4)."""

from __future__ import annotations

from tumpline.machines.bpa.core import Core, retain_payload
from tumpline.machines.bpa.queues import Consumer, Entry, Queues
from tumpline.machines.bpa.rewrite import Rewriter, decode_stored
from tumpline.machines.effects import Forward, PathInfo, Unit
from tumpline.wire.eid import Eid


class Path:
    """One way to a neighbour: a session, or a datagram address."""

    __slots__ = ("in_flight", "info", "neighbour", "octets", "previous", "resume_at", "retry_s", "usable")

    def __init__(self, info: PathInfo, neighbour: Neighbour | None, retry_s: float) -> None:
        self.info = info
        self.neighbour = neighbour  # whom bundles may be handed to over it; None: it makes no route
        self.previous = "" if info.peer is None else str(info.peer.node)
        self.in_flight: dict[int, Entry] = {}
        self.octets = 0  # of those
        self.usable = True  # within the neighbour's contact windows
        self.resume_at = 0.0  # not before: the peer asked for a pause
        self.retry_s = retry_s  # the next pause

    def pause(self, now: float, longest_s: float) -> None:
        """Back off: once for all units that were under way together, longer each time in a row."""
        if now >= self.resume_at:
            self.resume_at = now + self.retry_s
            self.retry_s = min(self.retry_s * 2, longest_s)


class Neighbour(Consumer):
    """A node that bundles can be handed to."""

    def __init__(self, eid: Eid, core: Core, queues: Queues, rewriter: Rewriter) -> None:
        super().__init__(str(eid), core)
        self.eid = eid
        self.paths: list[Path] = []  # newest first: of two sessions with one peer the older one may be half dead
        self._core = core
        self._queues = queues
        self._rewriter = rewriter

    @property
    def is_up(self) -> bool:
        """Whether a route over it can be taken now (a path that pauses is still the way to go)."""
        return any(path.usable for path in self.paths)

    def pump(self, now: float) -> None:
        """Offer what is ready to the paths, as far as their windows allow, and read on."""
        for path in self.paths:
            if not self.ready:
                break
            if path.usable and now >= path.resume_at:
                self._fill(path, now)
        self._queues.pull(self)

    def _fill(self, path: Path, now: float) -> None:
        now_ms = self._core.clock.ms(now)
        ready, held, in_flight = self.ready, self._queues.held, path.in_flight
        rewrite = self._rewriter.head
        most_bundles, most_octets = self._most_bundles, self._most_octets
        units: list[Unit] = []
        while ready and len(in_flight) < most_bundles and path.octets < most_octets:
            entry = ready.popleft()
            bundle, head, _, octets = entry
            self.ready_octets -= octets
            seq = bundle.seq
            if held.get(seq) is not entry:
                continue  # deleted meanwhile
            if head is None:
                head = decode_stored(bundle.head)
            unit = Unit(seq, rewrite(head, now_ms - bundle.received_ms), bundle.payload, bundle.tail)
            retain_payload(bundle.payload)
            in_flight[seq] = entry
            path.octets += octets
            units.append(unit)
        if units:
            self._core.effects.append(Forward(path.info.path, units))
