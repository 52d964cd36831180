"""Segments of transfers into bundles, in any order, in bounded memory, from peers that nobody vouches for."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from tumpline.wire.udpcl import Transfer

SEGMENT_COST_OCTETS: Final = 160  # what Python needs for a segment beside its octets
TRANSFER_COST_OCTETS: Final = 600  # and for a transfer that has begun

_Key = tuple[Hashable, int]  # draft: a transfer ID belongs to the sender's address and port


class Limits(NamedTuple):
    """What reassembly may take. Octets are of memory, with what Python needs."""

    octets: int = 64 << 20  # of all peers
    peer_octets: int = 16 << 20  # of one: a stranger cannot take what the others need
    closed: int = 4096  # transfers that are over, remembered so that a late copy does not begin them anew
    timeout_s: float = 60.0  # draft: at most 60 s (SHOULD) since the last segment


@dataclass(slots=True)
class Counters:
    """Of transfer items received: each is used (in a bundle, or still held) or counted in one of the others."""

    completed: int = 0  # transfers
    timed_out: int = 0  # transfers
    contradictory: int = 0  # transfers whose segments disagree about their length
    late: int = 0  # items of a transfer that is over: copies, most of all
    overlapping: int = 0  # items, copies among them
    without_room: int = 0  # items


class _Open:
    __slots__ = ("cost", "deadline", "held", "offsets", "pieces", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self.cost = 0
        self.deadline = 0.0
        self.offsets: list[int] = []  # in order, those of `pieces` beside them
        self.pieces: list[bytes] = []


class Reassembly:
    """`receive` the items, have `handle_timeout` called at `next_timeout()`."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.counts = Counters()
        self.held_octets = 0
        self._limits = limits or Limits()
        self._open: OrderedDict[_Key, _Open] = OrderedDict()  # the one that waits longest first
        self._closed: OrderedDict[_Key, float] = OrderedDict()  # until when; the first that ends first
        self._of_peer: Counter[Hashable] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is incomplete."""
        return not self._open

    def receive(self, peer: Hashable, transfer: Transfer, now: float) -> bytes | None:
        """The bundle that this item completes, or None. `peer` is the address and port it came from."""
        key = (peer, transfer.number)
        if self._is_closed(key, now):
            self.counts.late += 1
            return None
        total = len(transfer.data) if transfer.total is None else transfer.total
        entry = self._open.get(key)
        if entry is None and total == len(transfer.data):
            return self._complete(key, transfer.data, now)
        if entry is not None and entry.total != total:
            # Draft: the transfer is malformed, all its later segments are refused.
            self.counts.contradictory += 1
            self._close(key, now)
            return None
        return self._keep(key, entry or _Open(total), transfer, now)

    def receive_whole(self, peer: Hashable, items: Iterable[tuple[int, bytes]], now: float) -> list[bytes]:
        """The same for transfers that each came in one item (number and bundle): the bundles that are new."""
        closed, until = self._closed, now + self._limits.timeout_s
        new: list[bytes] = []
        for number, data in items:
            key = (peer, number)
            known = closed.get(key)
            if known is not None and known > now:
                self.counts.late += 1
            elif known is not None or key in self._open:  # a number that is used again
                new += filter(None, [self.receive(peer, Transfer(number, data), now)])
            else:
                closed[key] = until
                new.append(data)
                self.counts.completed += 1
        while len(closed) > self._limits.closed:
            closed.popitem(last=False)
        return new

    def next_timeout(self) -> float | None:
        """When the transfer that waits longest is given up, None if none is incomplete."""
        return next(iter(self._open.values())).deadline if self._open else None

    def handle_timeout(self, now: float) -> None:
        """Drop what has waited too long for its next segment."""
        while self._open:
            key, entry = next(iter(self._open.items()))
            if entry.deadline > now:
                break
            self.counts.timed_out += 1
            self._drop(key)

    def forget_peer(self, peer: Hashable) -> None:
        """The conversation is over: nothing of it is kept."""
        for key in [key for key in self._open if key[0] == peer]:
            self._drop(key)

    def _keep(self, key: _Key, entry: _Open, transfer: Transfer, now: float) -> bytes | None:
        at = bisect_left(entry.offsets, transfer.offset)
        end = transfer.offset + len(transfer.data)
        overlaps_next = at < len(entry.offsets) and entry.offsets[at] < end
        if overlaps_next or (at and entry.offsets[at - 1] + len(entry.pieces[at - 1]) > transfer.offset):
            self.counts.overlapping += 1
            return None
        if not self._take_room(key, entry, len(transfer.data)):
            self.counts.without_room += 1
            return None
        entry.offsets.insert(at, transfer.offset)
        entry.pieces.insert(at, transfer.data)
        entry.held += len(transfer.data)
        # Spans do not overlap and none goes beyond the total: as many octets as the total are all of them.
        if entry.held == entry.total:
            return self._complete(key, b"".join(entry.pieces), now)
        entry.deadline = now + self._limits.timeout_s
        self._open.move_to_end(key)
        return None

    def _take_room(self, key: _Key, entry: _Open, octets: int) -> bool:
        needed = octets + SEGMENT_COST_OCTETS + (0 if entry.cost else TRANSFER_COST_OCTETS)
        if self.held_octets + needed > self._limits.octets:
            return False
        # What can never be whole within the peer's share is not begun.
        if max(self._of_peer[key[0]] + needed, entry.total) > self._limits.peer_octets:
            return False
        self._open[key] = entry
        entry.cost += needed
        self.held_octets += needed
        self._of_peer[key[0]] += needed
        return True

    def _complete(self, key: _Key, bundle: bytes, now: float) -> bytes:
        self.counts.completed += 1
        self._close(key, now)
        return bundle

    def _close(self, key: _Key, now: float) -> None:
        self._drop(key)
        self._closed[key] = now + self._limits.timeout_s
        if len(self._closed) > self._limits.closed:
            self._closed.popitem(last=False)

    def _drop(self, key: _Key) -> None:
        entry = self._open.pop(key, None)
        if entry is None:
            return
        self.held_octets -= entry.cost
        self._of_peer[key[0]] -= entry.cost
        if not self._of_peer[key[0]]:
            del self._of_peer[key[0]]

    def _is_closed(self, key: _Key, now: float) -> bool:
        # Two at a time, so that they go faster than they come.
        for old, until in list(islice(self._closed.items(), 2)):
            if until <= now:
                del self._closed[old]
        return key in self._closed
