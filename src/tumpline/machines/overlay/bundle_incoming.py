"""Bundles of one session that come from a peer: records become events, and answers become records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tumpline.errors import RemoteProtocolError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.effects import RefuseReason
from tumpline.machines.overlay.bundle_events import (
    BundleEvents,
    SegmentReceived,
    TransferAborted,
    TransferFinished,
    TransferStarted,
)
from tumpline.machines.overlay.bundle_outgoing import REASONS
from tumpline.machines.overlay.numbered import Part
from tumpline.wire.overlay_bundles import (
    REFUSED_OCTETS,
    Abort,
    Opening,
    Segment,
    Start,
    Whole,
    encode_refused,
    encode_stored,
)

CODES: Final = {reason: code for code, reason in REASONS.items()}
STORED_MOST: Final = 4096  # numbers in one record


class Incoming:
    """`ours` is what we told that we take; whoever does not keep to it ends the session."""

    def __init__(self, ours: Opening, events: BundleEvents) -> None:
        self._ours = ours
        self._events = events
        self._last = 0  # number of the transfer that began last
        self._large: tuple[int, int, int] | None = None  # number, octets, octets that came
        self._unanswered: dict[int, int] = {}  # number: octets of it in memory
        self._unanswered_octets = 0
        self._stored: list[int] = []
        self._refusals: list[bytes] = []

    @property
    def is_busy(self) -> bool:
        """Whether something waits for our answer, or for its rest."""
        return self._large is not None or bool(self._unanswered) or self.has_answers

    @property
    def has_answers(self) -> bool:
        """Whether `take` would give something."""
        return bool(self._stored or self._refusals)

    # ---- from the peer -----------------------------------------------------------------------------------------------

    def whole(self, record: Whole) -> None:
        """A small bundle. Raises: RemoteProtocolError."""
        number, octets = record
        self._begin(number)
        if len(octets) >= FILE_PAYLOAD_OCTETS:
            raise RemoteProtocolError(f"transfer {number} came whole, with {len(octets)} octets")
        self._await_answer(number, len(octets))
        self._events.arrived.append((number, bytes(octets)))

    def start(self, record: Start) -> None:
        """A large bundle begins. Raises: RemoteProtocolError."""
        number, octets = record
        self._begin(number)
        if not FILE_PAYLOAD_OCTETS <= octets <= self._ours.mru_octets:
            raise RemoteProtocolError(f"transfer {number} of {octets} octets; we take {self._ours.mru_octets}")
        self._large = number, octets, 0
        self._events.emit(TransferStarted(number, octets))

    def segment(self, record: Segment) -> None:
        """Its next octets; nothing, if it was refused. Raises: RemoteProtocolError."""
        if self._large is None or record.transfer != self._large[0]:
            if record.transfer != self._last:
                raise RemoteProtocolError(f"a segment of transfer {record.transfer}, which is not under way")
            return
        number, octets, came = self._large
        came += len(record.octets)
        if came > octets:
            raise RemoteProtocolError(f"transfer {number} is longer than the {octets} octets it began with")
        self._large = number, octets, came
        self._events.emit(SegmentReceived(number, record.octets))
        if came == octets:
            self._large = None
            self._await_answer(number, 0)
            self._events.emit(TransferFinished(number))

    def abort(self, record: Abort) -> None:
        """Its rest does not come."""
        if self._large is not None and self._large[0] == record.transfer:
            self._large = None
            self._events.emit(TransferAborted(record.transfer))

    def _begin(self, number: int) -> None:
        if number <= self._last or self._large is not None:
            raise RemoteProtocolError(f"transfer {number} begins behind transfer {self._last}, or within it")
        self._last = number

    def _await_answer(self, number: int, octets: int) -> None:
        self._unanswered[number] = octets
        self._unanswered_octets += octets
        ours = self._ours
        if len(self._unanswered) > ours.unanswered_most:
            raise RemoteProtocolError(f"{len(self._unanswered)} transfers without an answer; we take fewer")
        if self._unanswered_octets > max(ours.unanswered_octets_most, octets):
            raise RemoteProtocolError(f"{self._unanswered_octets} octets without an answer; we take fewer")

    # ---- from the node -----------------------------------------------------------------------------------------------

    def acknowledge(self, numbers: Sequence[int]) -> None:
        """These are stored."""
        for number in numbers:
            octets = self._unanswered.pop(number, None)
            if octets is not None:
                self._unanswered_octets -= octets
                self._stored.append(number)

    def refuse(self, number: int, reason: RefuseReason) -> None:
        """This one is not kept, come whole or not."""
        if self._large is not None and self._large[0] == number:
            self._large = None
        elif number in self._unanswered:
            self._unanswered_octets -= self._unanswered.pop(number)
        else:
            return
        self._refusals.append(encode_refused(number, CODES[reason]))

    def abort_large(self) -> None:
        """The session is over."""
        if self._large is not None:
            self._events.emit(TransferAborted(self._large[0]))
            self._large = None

    # ---- to the peer -------------------------------------------------------------------------------------------------

    def take(self, room: int) -> list[Part]:
        """Answers, as records of some of `room` octets."""
        parts = []
        if self._stored:
            octets = encode_stored(self._stored[:STORED_MOST])
            del self._stored[:STORED_MOST]
            parts.append(Part(len(octets), (octets,)))
        count = min(len(self._refusals), (room >> 1) // REFUSED_OCTETS)
        if count:
            octets = b"".join(self._refusals[:count])
            del self._refusals[:count]
            parts.append(Part(len(octets), (octets,)))
        return parts
