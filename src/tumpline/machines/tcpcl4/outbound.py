"""Transfers that go: segments out, acknowledgements and refusals in (RFC 9174 §5.2, Figure 11)."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from tumpline.errors import RemoteProtocolError
from tumpline.machines.tcpcl4.events import (
    BodyRange,
    SessionEvents,
    TransferProgress,
    TransferRefused,
    TransfersLost,
)
from tumpline.machines.tcpcl4.sizing import SegmentSizer
from tumpline.wire.tcpcl4 import (
    ACK,
    SEGMENT_WHOLE,
    TRANSFER_ID_MOST,
    WHOLE,
    Acknowledgment,
    MessageType,
    Refusal,
    RefusalCode,
    SegmentFlag,
    SegmentHead,
    TerminationCode,
    encode_segment_head,
    encode_transfer_length,
)

# Refused transfers whose further refusals are expected: while segments and a refusal cross on the wire, each segment is
# refused anew (RFC 9174 §5.2.4). Only the newest can still be under way; some more cost nothing.
REFUSED_REMEMBERED = 64


class _Unit(NamedTuple):
    token: int
    length: int
    data: bytes | None


class _Sent(NamedTuple):
    """A segment of a transfer in several segments that waits for its XFER_ACK."""

    flags: int
    acknowledged: int  # the length its XFER_ACK must have
    octets: int
    at: float


class _Transfer:
    """The transfer under way that takes several segments, or whose body the driver holds."""

    __slots__ = ("data", "length", "number", "offset", "started", "token")

    def __init__(self, unit: _Unit, number: int) -> None:
        self.token, self.length, self.data = unit
        self.number = number
        self.offset = 0
        self.started = False


class Outbound:
    """The sender's half of a session."""

    __slots__ = (
        "_awaiting",
        "_current",
        "_events",
        "_extensions",
        "_lenient_acks",
        "_next",
        "_queue",
        "_refused",
        "_segments",
        "exhausted",
        "sizer",
    )

    def __init__(
        self, events: SessionEvents, first_transfer_id: int, lenient_acks: bool = False, extensions: bytes = b""
    ) -> None:
        """`extensions` are items that go with each transfer."""
        self._events = events
        self._extensions = extensions
        self._lenient_acks = lenient_acks
        self._next = first_transfer_id
        self._queue: deque[_Unit] = deque()
        self._current: _Transfer | None = None
        self._awaiting: dict[int, tuple[int, int]] = {}  # transfer -> token, length: until the END segment's XFER_ACK
        self._segments: dict[int, deque[_Sent]] = {}  # transfer -> its segments, unless it is WHOLE in one
        self._refused: deque[int] = deque(maxlen=REFUSED_REMEMBERED)
        self.exhausted = False  # no Transfer ID is left
        self.sizer = SegmentSizer(1, 1, 1, 1.0)

    @property
    def is_busy(self) -> bool:
        """Whether a transfer has begun and has not ended."""
        return bool(self._awaiting)

    @property
    def has_work(self) -> bool:
        """Whether `pull` would give something."""
        return self._current is not None or (bool(self._queue) and not self.exhausted)

    def offer(self, token: int, length: int, data: bytes | None) -> None:
        """Queue a transfer."""
        self._queue.append(_Unit(token, length, data))

    def cancel(self, token: int) -> bool:
        """Take a transfer out of the queue; False if it has begun or ended (RFC 9174 §5.2.2: a transfer that has
        commenced goes on until END)."""
        for unit in self._queue:
            if unit.token == token:
                self._queue.remove(unit)
                self._events.emit(TransfersLost([token]))
                return True
        return False

    def drop_queue(self) -> None:
        """No new transfer may begin (RFC 9174 §6.1): what has not begun is lost."""
        if self._queue:
            self._events.emit(TransfersLost([unit.token for unit in self._queue]))
            self._queue.clear()

    def drop_all(self) -> None:
        """The session is over."""
        if self._awaiting:
            self._events.emit(TransfersLost([token for token, _ in self._awaiting.values()]))
            self._awaiting.clear()
        self._segments.clear()
        self._current = None
        self.drop_queue()

    # ---- sending -----------------------------------------------------------------------------------------------------

    def pull(self, first: list[bytes], most: int, now: float) -> list[bytes | BodyRange]:
        """`first` and about `most` octets of segments behind it, whole messages, runs of octets joined."""
        pieces: list[bytes | BodyRange] = []
        run = first
        while most > 0 and self.has_work:
            if self._current is None:
                if not self._extensions:
                    most = self._pull_whole(run, most)
                if most <= 0 or not self._begin():
                    break
            most -= self._pull_segment(run, pieces, now)
        if run:
            pieces.append(b"".join(run))
        return pieces

    def _pull_whole(self, run: list[bytes], most: int) -> int:
        """Transfers that fit one segment, until one does not. Returns what is left of `most`. The hot path."""
        queue, awaiting, pack = self._queue, self._awaiting, SEGMENT_WHOLE.pack
        limit, number = self.sizer.octets, self._next
        while queue and most > 0:
            token, length, data = queue[0]
            if data is None or length > limit or number > TRANSFER_ID_MOST:
                break
            queue.popleft()
            run.append(pack(1, 3, number, 0, length))  # XFER_SEGMENT, START and END, no extension items
            run.append(data)
            awaiting[number] = token, length
            number += 1
            most -= length + 22
        self._next = number
        return most

    def _begin(self) -> bool:
        """Start the next transfer of the queue that needs more than `_pull_whole`; False if there is none."""
        if self._queue and self._next > TRANSFER_ID_MOST:
            self.exhausted = True
        if self.exhausted or not self._queue:
            return False
        transfer = _Transfer(self._queue.popleft(), self._next)
        self._next += 1
        self._awaiting[transfer.number] = transfer.token, transfer.length
        self._segments[transfer.number] = deque()
        self._current = transfer
        return True

    def _pull_segment(self, run: list[bytes], pieces: list[bytes | BodyRange], now: float) -> int:
        """The next segment of the current transfer. Returns its octets."""
        transfer = self._current
        assert transfer is not None
        octets = min(self.sizer.octets, transfer.length - transfer.offset)
        end = transfer.offset + octets
        flags = 0 if transfer.started else int(SegmentFlag.START)
        extensions = self._extensions if flags else b""
        if end == transfer.length:
            flags |= SegmentFlag.END
            self._current = None
        if flags == SegmentFlag.START:  # RFC 9174 §5.2.5.1: not on a transfer in exactly one segment
            extensions += encode_transfer_length(transfer.length)
        run.append(encode_segment_head(SegmentHead(flags, transfer.number, extensions, octets)))
        if transfer.data is not None:
            run.append(transfer.data[transfer.offset : end])
        elif octets:
            pieces.append(b"".join(run))
            run.clear()
            pieces.append(BodyRange(transfer.token, transfer.offset, octets))
        self._segments[transfer.number].append(_Sent(flags, end, octets, now))
        transfer.started, transfer.offset = True, end
        return octets + 22

    # ---- what comes back ---------------------------------------------------------------------------------------------

    def receive_acks(self, data: memoryview, offset: int) -> int:
        """A run of XFER_ACKs for transfers in one segment, the hot path. Stops before whatever else comes."""
        awaiting, segments, acked = self._awaiting, self._segments, self._events.acked
        unpack, last = ACK.unpack_from, len(data) - ACK.size
        while offset <= last:
            kind, flags, number, length = unpack(data, offset)
            if kind != MessageType.XFER_ACK or flags != 3 or number in segments:
                break
            entry = awaiting.get(number)
            if entry is None or entry[1] != length:
                break
            del awaiting[number]
            acked.append(entry[0])
            offset += 18
        return offset

    def receive_ack(self, ack: Acknowledgment, now: float) -> bool:
        """One XFER_ACK. False: there is no such transfer. Raises: RemoteProtocolError (it is not what was sent)."""
        if ack.transfer in self._refused:
            return True  # it crossed with a refusal of the same transfer
        entry = self._awaiting.get(ack.transfer)
        if entry is None:
            return False
        token, length = entry
        sent = self._segments.get(ack.transfer)
        expected = _Sent(int(WHOLE), length, 0, 0.0) if sent is None else (sent[0] if sent else None)
        if expected is None or ack.length != expected.acknowledged or not self._may_answer(ack.flags, expected.flags):
            raise RemoteProtocolError(
                f"XFER_ACK of {ack.length} octets, flags {ack.flags}, for transfer {ack.transfer}: not what was sent",
                TerminationCode.UNKNOWN,
            )
        if expected.flags & SegmentFlag.END:
            del self._awaiting[ack.transfer]
            self._segments.pop(ack.transfer, None)
            self._events.acked.append(token)
            return True
        assert sent is not None
        sent.popleft()
        self.sizer.sample(expected.octets, now - expected.at)
        self._events.emit(TransferProgress(token, ack.length))
        return True

    def _may_answer(self, flags: int, sent: int) -> bool:
        """Whether an XFER_ACK with these flags is the one of a segment with those.

        RFC 9174 §5.2.3: they SHALL match, but reserved bits SHALL be ignored by whoever receives them."""
        return self._lenient_acks or flags & WHOLE == sent

    def receive_refusal(self, refusal: Refusal) -> bool:
        """An XFER_REFUSE. False: there is no such transfer."""
        if refusal.transfer in self._refused:
            return True
        entry = self._awaiting.pop(refusal.transfer, None)
        if entry is None:
            return False
        self._refused.append(refusal.transfer)
        self._segments.pop(refusal.transfer, None)
        if self._current is not None and self._current.number == refusal.transfer:
            self._current = None  # RFC 9174 §5.2.4: no further segment, and no END
        self._events.emit(TransferRefused(entry[0], RefusalCode(refusal.reason)))
        return True
