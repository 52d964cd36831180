"""Units of one session on their way to a peer: they wait, they are begun, they wait for its answer; each ends once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from tumpline.errors import RemoteProtocolError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.effects import RefuseReason
from tumpline.machines.overlay.bundle_events import BundleEvents, TransferProgressed, TransferRefused, TransfersLost
from tumpline.machines.overlay.numbered import BodyRange, Numbered, Part
from tumpline.wire.overlay_bundles import (
    SEGMENT_HEAD_OCTETS,
    START_OCTETS,
    WHOLE_HEAD_OCTETS,
    Opening,
    RefusalCode,
    encode_abort,
    encode_start,
    segment_head,
    whole_head,
)

SEGMENT_OCTETS_LEAST: Final = 4096  # what is left of a message is not worth a segment of its own below this
REASONS: Final = {
    RefusalCode.NO_RESOURCES: RefuseReason.NO_RESOURCES,
    RefusalCode.COMPLETED: RefuseReason.COMPLETED,
    RefusalCode.RETRANSMIT: RefuseReason.RETRANSMIT,
    RefusalCode.NOT_ACCEPTABLE: RefuseReason.NOT_ACCEPTABLE,
}


class Waiting(NamedTuple):
    """A unit that was offered. `data` is all of it, or None: its octets are taken from the driver when they go."""

    token: int
    octets: int
    data: bytes | None

    @property
    def is_small(self) -> bool:
        """It goes whole, in one record, and the peer holds it in memory until it is stored."""
        return self.octets < FILE_PAYLOAD_OCTETS


class Outgoing:
    """`peer` is what the other end takes."""

    def __init__(self, peer: Opening, events: BundleEvents) -> None:
        self._peer = peer
        self._events = events
        self._queue: deque[Waiting] = deque()
        self._begun = 0  # transfer number given last
        self._large: Waiting | None = None  # of the number `_begun`, while segments of it go
        self._gone = 0  # octets of it that went
        self._unanswered: dict[int, Waiting] = {}  # by transfer: gone, and without an answer
        self._unanswered_octets = 0  # of small ones
        self._live: set[int] = set()  # tokens of units whose octets the driver is asked for
        self._aborts: list[bytes] = []

    @property
    def is_busy(self) -> bool:
        """Whether a unit has begun and has not ended."""
        return self._large is not None or bool(self._unanswered)

    @property
    def has_work(self) -> bool:
        """Whether `take` would give something."""
        return bool(self._aborts) or self._large is not None or (bool(self._queue) and self._may_begin())

    # ---- from the node -----------------------------------------------------------------------------------------------

    def send(self, unit: Waiting) -> None:
        """One more, behind the others."""
        if unit.octets > self._peer.mru_octets:
            self._events.emit(TransferRefused(unit.token, RefuseReason.NOT_ACCEPTABLE))
            return
        self._queue.append(unit)

    def cancel(self, token: int) -> None:
        """Do not send it, if it has not begun."""
        for unit in self._queue:
            if unit.token == token:
                self._queue.remove(unit)
                self._events.emit(TransfersLost([token]))
                return

    def unreadable(self, token: int) -> None:
        """Its octets are gone: the peer gets no more of it, and it shall not be offered again."""
        if self._large is not None and self._large.token == token:
            self._large = None
            self._aborts.append(encode_abort(self._begun))
        else:
            numbers = [number for number, unit in self._unanswered.items() if unit.token == token]
            if not numbers:
                return  # it has ended meanwhile
            self._forget(numbers[0])
        self._live.discard(token)
        self._events.emit(TransferRefused(token, RefuseReason.NOT_ACCEPTABLE))

    # ---- to the peer -------------------------------------------------------------------------------------------------

    def take(self, room: int) -> list[Part]:
        """Records of at most `room` octets, which go in this order."""
        parts = [Part(len(abort), (abort,)) for abort in self._aborts]
        self._aborts.clear()
        room -= sum(part.octets for part in parts)
        while room > 0:
            if self._large is not None:
                taken = self._segment(self._large, room)
            else:
                taken = self._begin(room) if self._queue and self._may_begin() else []
            if not taken:
                break
            parts += taken
            room -= sum(part.octets for part in taken)
        return parts

    def _may_begin(self) -> bool:
        unit, peer = self._queue[0], self._peer
        if len(self._unanswered) >= peer.unanswered_most:
            return False
        octets = self._unanswered_octets
        return not unit.is_small or not octets or octets + unit.octets <= peer.unanswered_octets_most

    def _begin(self, room: int) -> list[Part]:
        """The record of a small unit, or the first one of a large."""
        unit = self._queue[0]
        if (WHOLE_HEAD_OCTETS + unit.octets if unit.is_small else START_OCTETS + SEGMENT_OCTETS_LEAST) > room:
            return []
        self._queue.popleft()
        self._begun += 1
        if unit.data is None:
            self._live.add(unit.token)
        if not unit.is_small:
            self._large, self._gone = unit, 0
            return [Part(START_OCTETS, (encode_start(self._begun, unit.octets),), unit.token)]
        self._unanswered[self._begun] = unit
        self._unanswered_octets += unit.octets
        head = whole_head(self._begun, unit.octets)
        if unit.data is not None:
            return [Part(WHOLE_HEAD_OCTETS + unit.octets, (head, unit.data))]
        body = BodyRange(unit.token, 0, unit.octets)
        return [Part(WHOLE_HEAD_OCTETS + unit.octets, (head, body), unit.token)]

    def _segment(self, unit: Waiting, room: int) -> list[Part]:
        octets = min(room - SEGMENT_HEAD_OCTETS, unit.octets - self._gone)
        if octets < min(SEGMENT_OCTETS_LEAST, unit.octets - self._gone):
            return []
        body = BodyRange(unit.token, self._gone, octets)
        self._gone += octets
        part = Part(SEGMENT_HEAD_OCTETS + octets, (segment_head(self._begun, octets), body), unit.token, self._gone)
        if self._gone == unit.octets:
            self._unanswered[self._begun] = unit
            self._large = None
        return [part]

    def still_wanted(self, message: Numbered) -> list[Part]:
        """What of a message is worth repeating: nobody waits for octets of units that have ended."""
        live = self._live
        return [part for part in message.parts if part.token < 0 or part.token in live]

    # ---- from the peer -----------------------------------------------------------------------------------------------

    def arrived(self, messages: Iterable[Numbered]) -> None:
        """The peer has these messages."""
        for message in messages:
            for part in message.parts:
                if part.end and part.token in self._live:
                    self._events.emit(TransferProgressed(part.token, part.end))

    def stored(self, numbers: Iterable[int]) -> None:
        """The peer keeps these. Raises: RemoteProtocolError."""
        acked = self._events.acked
        for number in numbers:
            unit = self._forget(number)
            if unit is None:
                raise RemoteProtocolError(f"transfer {number} was acknowledged, which waits for no answer")
            acked.append(unit.token)

    def refused(self, number: int, code: int) -> None:
        """The peer does not keep it; what it does not say clearly means: try again. Raises: RemoteProtocolError."""
        if self._large is not None and number == self._begun:
            unit, self._large = self._large, None
            self._live.discard(unit.token)
        else:
            found = self._forget(number)
            if found is None:
                raise RemoteProtocolError(f"transfer {number} was refused, which waits for no answer")
            unit = found
        reason = REASONS.get(code, RefuseReason.RETRANSMIT)  # type: ignore[call-overload]
        self._events.emit(TransferRefused(unit.token, reason))

    def _forget(self, number: int) -> Waiting | None:
        unit = self._unanswered.pop(number, None)
        if unit is not None:
            self._unanswered_octets -= unit.octets if unit.is_small else 0
            self._live.discard(unit.token)
        return unit

    # ---- ending ------------------------------------------------------------------------------------------------------

    def lose_waiting(self) -> None:
        """What has not begun will not."""
        self._lose([unit.token for unit in self._queue])
        self._queue.clear()

    def lose_all(self) -> None:
        """Nobody will answer any more."""
        large = [self._large.token] if self._large is not None else []
        self._lose([*(unit.token for unit in self._unanswered.values()), *large, *(unit.token for unit in self._queue)])
        self._queue.clear()
        self._unanswered.clear()
        self._large = None
        self._live.clear()

    def _lose(self, tokens: list[int]) -> None:
        if tokens:
            self._events.emit(TransfersLost(tokens))

    def snapshot(self) -> dict[str, int]:
        """For people."""
        return {"waiting": len(self._queue), "unanswered": len(self._unanswered) + (self._large is not None)}
