"""Transfers that come: segments in, acknowledgements and refusals out (RFC 9174 §5.2, Figure 12).

A transfer below FILE_PAYLOAD_OCTETS is gathered here and given whole; a larger one goes segment by segment through the
driver into a sink. Until it is answered by `acknowledge` or `refuse`, a complete transfer is *unsettled*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from itertools import repeat

from tumpline.errors import LocalProtocolError, MalformedError, RemoteProtocolError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.machines.tcpcl4.events import (
    Body,
    SegmentStarted,
    SessionEvents,
    TransferAborted,
    TransferReceived,
    TransferStarted,
)
from tumpline.machines.tcpcl4.outbox import Outbox
from tumpline.wire.tcpcl4 import (
    ACK,
    REFUSE,
    SEGMENT_WHOLE,
    TRANSFER_LENGTH,
    WHOLE,
    Acknowledgment,
    MessageType,
    Refusal,
    RefusalCode,
    Rejection,
    RejectionCode,
    SegmentFlag,
    SegmentHead,
    TerminationCode,
    decode_extensions_untrusted,
    decode_segment_untrusted,
    decode_transfer_length_untrusted,
    encode_ack,
    encode_refusal,
    encode_rejection,
)


class _Mode(Enum):
    GATHER = "gather"  # small so far: octets are kept here
    DECIDE = "decide"  # TransferStarted was emitted
    SINK = "sink"  # accepted: octets go to the driver's sink
    REFUSED = "refused"  # octets are discarded until END or the next START


class _Transfer:
    """The transfer whose segments are coming."""

    __slots__ = ("announced", "gathered", "mode", "number", "received", "refusal")

    def __init__(self, number: int, announced: int | None) -> None:
        self.number = number
        self.announced = announced
        self.received = 0  # octets of complete segments
        self.gathered = bytearray()
        self.mode = _Mode.GATHER
        self.refusal = RefusalCode.UNKNOWN  # what further segments are refused with


class _Refuse(Exception):
    """The transfer cannot be taken (never leaves this module)."""

    def __init__(self, code: RefusalCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Inbound:
    """The receiver's half of a session."""

    __slots__ = (
        "_config",
        "_current",
        "_ending",
        "_events",
        "_left",
        "_out",
        "_refusals",
        "_segment",
        "_special",
        "_take_idle",
        "_unsettled",
        "_unsettled_octets",
    )

    def __init__(
        self, config: SessionConfig, events: SessionEvents, out: Outbox, take_idle: Callable[[], None]
    ) -> None:
        """`take_idle` is told of each segment that moves nothing, and raises RemoteProtocolError in a flood of them."""
        self._take_idle = take_idle
        self._config = config
        self._events = events
        self._out = out
        self._ending = False
        self._current: _Transfer | None = None
        self._segment: SegmentHead | None = None  # the segment of _current whose octets are coming
        self._left = 0  # octets of this segment (or of one that is rejected) that bypass `receive`
        # Complete or refused transfers in order of arrival -> octets, until their acknowledgement or refusal is queued.
        self._unsettled: dict[int, int] = {}
        self._unsettled_octets = 0  # of those given whole in memory
        self._special: dict[int, tuple[int, int]] = {}  # END flags and octets in memory of transfers unlike most
        self._refusals: dict[int, int] = {}  # refused, but an earlier transfer is unsettled: number -> reason

    @property
    def is_busy(self) -> bool:
        """Whether a transfer is under way or waits for its answer."""
        return bool(self._unsettled) or self._left > 0 or self._in_progress

    @property
    def _in_progress(self) -> bool:
        return self._current is not None and self._current.mode is not _Mode.REFUSED

    @property
    def _is_deciding(self) -> bool:
        return self._current is not None and self._current.mode is _Mode.DECIDE

    @property
    def is_paused(self) -> bool:
        """Whether nothing may be read: a transfer waits to be accepted, or too many wait for their answer."""
        if self._is_deciding:
            return True
        if self._left:
            return False
        return (
            len(self._unsettled) >= self._config.unsettled_most
            or self._unsettled_octets >= self._config.unsettled_octets_most
        )

    @property
    def takes_messages(self) -> bool:
        """Whether the next octets are those of a message: no body is under way, and nothing waits."""
        return not self._left and not self.is_paused

    @property
    def body(self) -> Body | None:
        """Where the next octets belong, if not into `receive`."""
        if not self._left:
            return None
        transfer = self._current
        into_sink = self._segment is not None and transfer is not None and transfer.mode is _Mode.SINK
        return Body(transfer.number if into_sink and transfer is not None else None, self._left)

    # ---- what the session does ---------------------------------------------------------------------------------------

    def begin_ending(self) -> None:
        """RFC 9174 §6.1: no new transfer is accepted from now on."""
        self._ending = True

    def drop_all(self, text: str) -> None:
        """The session is over: a transfer in progress will not be completed; answers that come late have no effect."""
        transfer, self._current = self._current, None
        self._segment, self._left = None, 0
        self._unsettled.clear()
        self._special.clear()
        self._refusals.clear()
        self._unsettled_octets = 0
        if transfer is not None and transfer.mode is _Mode.SINK:
            self._events.emit(TransferAborted(transfer.number, text))

    # ---- segments in -------------------------------------------------------------------------------------------------

    def receive_whole(self, data: memoryview, offset: int) -> int:
        """A run of small transfers in one segment each, the hot path. Stops before whatever else comes."""
        if self._ending or self._current is not None:
            return offset
        unsettled, arrived, unpack = self._unsettled, self._events.arrived, SEGMENT_WHOLE.unpack_from
        end = len(data)
        last = end - SEGMENT_WHOLE.size
        most = min(FILE_PAYLOAD_OCTETS - 1, self._config.segment_mru, self._config.transfer_mru)
        octets = 0
        while offset <= last:
            kind, flags, number, extensions, length = unpack(data, offset)
            if kind != MessageType.XFER_SEGMENT or flags != 3 or extensions or length > most or number in unsettled:
                break
            stop = offset + 22 + length
            if stop > end:
                break
            arrived.append((number, bytes(data[offset + 22 : stop])))
            unsettled[number] = length
            octets += length
            offset = stop
        self._unsettled_octets += octets
        return offset

    def receive_segment(self, data: memoryview, offset: int) -> int:
        """One XFER_SEGMENT of any kind. Returns the offset behind what was taken: its head (then `body` says where the
        rest goes), all of it, or nothing while octets are missing.

        Raises: RemoteProtocolError, OversizeError."""
        parsed = decode_segment_untrusted(data, offset)
        if parsed is None:
            return offset
        head, start = parsed
        if not head.length and not head.flags & SegmentFlag.END:
            self._take_idle()
        if head.length > self._config.segment_mru:  # RFC 9174 §4.6: SHALL have a data payload no longer than the MRU
            self._out.put(encode_rejection(Rejection(RejectionCode.UNSUPPORTED, MessageType.XFER_SEGMENT)))
            raise RemoteProtocolError(
                f"a segment of {head.length} octets: our Segment MRU is {self._config.segment_mru}",
                TerminationCode.RESOURCE_EXHAUSTION,
            )
        stop = start + head.length
        if self._is_gathered(head) and stop > len(data):
            return offset  # small: wait until it is there whole
        if not self._open(head) or self._current is None or self._current.mode is not _Mode.GATHER:
            self._left = head.length
            if not self._is_deciding:
                self.body_received(0)  # an empty segment is complete
            return start
        self._current.gathered += data[start:stop]
        self._segment_done()
        return stop

    def body_received(self, count: int) -> None:
        """The driver has taken `count` octets of `body`."""
        if count > self._left:
            raise LocalProtocolError(f"{count} octets of a body that has {self._left}")
        self._left -= count
        if not self._left and self._segment is not None:
            self._segment_done()

    def _is_gathered(self, head: SegmentHead) -> bool:
        """Whether the octets of this segment are (as far as the sizes tell) to be kept here."""
        transfer = self._current
        if head.flags & SegmentFlag.START:
            return head.length < FILE_PAYLOAD_OCTETS
        if transfer is None or transfer.mode is not _Mode.GATHER or transfer.number != head.transfer:
            return False
        return transfer.received + head.length < FILE_PAYLOAD_OCTETS

    def _open(self, head: SegmentHead) -> bool:
        """Take note of a segment that begins. False: it belongs to no transfer and is discarded."""
        transfer = self._current
        if head.flags & SegmentFlag.START:
            # RFC 9174 §5.2.2: "No interleaving of multiple transfers"; §5.2.1: IDs "SHALL be unique".
            expected = not self._in_progress and head.transfer not in self._unsettled
        else:
            expected = transfer is not None and transfer.number == head.transfer
        if not expected:
            self._out.put(encode_rejection(Rejection(RejectionCode.UNEXPECTED, MessageType.XFER_SEGMENT)))
            self._segment = None
            self._take_idle()
            return False
        self._segment = head
        try:
            if head.flags & SegmentFlag.START:
                self._start(head)
            else:
                self._continue(head)
        except _Refuse as refusal:
            self._refuse_current(refusal.code, str(refusal))
        return True

    def _start(self, head: SegmentHead) -> None:
        """The first segment of a transfer. Raises: _Refuse."""
        transfer = self._current = _Transfer(head.transfer, None)
        if self._ending:
            raise _Refuse(RefusalCode.SESSION_TERMINATING, "the session is ending")
        transfer.announced = _announced_length(head.extensions)
        self._check_length(transfer, head)
        is_small = head.length < FILE_PAYLOAD_OCTETS and (transfer.announced or 0) < FILE_PAYLOAD_OCTETS
        if not is_small:
            self._ask(transfer, head)

    def _continue(self, head: SegmentHead) -> None:
        """A further segment. Raises: _Refuse."""
        transfer = self._current
        assert transfer is not None
        if transfer.mode is _Mode.REFUSED:
            # RFC 9174 §5.2.4: "subsequent segments of the bundle SHALL also be refused".
            if transfer.number not in self._refusals:
                self._out.put(encode_refusal(Refusal(transfer.refusal, transfer.number)))
            return
        self._check_length(transfer, head)
        if transfer.mode is _Mode.SINK:
            if transfer.announced is None:
                self._events.emit(SegmentStarted(transfer.number, head.length))
        elif transfer.received + head.length >= FILE_PAYLOAD_OCTETS:
            self._ask(transfer, head)

    def _ask(self, transfer: _Transfer, head: SegmentHead) -> None:
        """The transfer is too large for us: the driver needs a sink."""
        transfer.mode = _Mode.DECIDE
        announced = self._whole_length(head) if transfer.announced is None else transfer.announced
        known = transfer.received + head.length if announced is None else announced
        self._events.emit(TransferStarted(transfer.number, announced, known, bytes(transfer.gathered)))
        transfer.gathered = bytearray()

    @staticmethod
    def _whole_length(head: SegmentHead) -> int | None:
        is_whole = head.flags & SegmentFlag.START and head.flags & SegmentFlag.END
        return head.length if is_whole else None

    def _check_length(self, transfer: _Transfer, head: SegmentHead) -> None:
        """Raises: _Refuse."""
        total = transfer.received + head.length
        announced = transfer.announced
        # RFC 9174 §4.6: the Transfer MRU is the largest we take; a fragment of the bundle may fit.
        if max(total, announced or 0) > self._config.transfer_mru:
            raise _Refuse(RefusalCode.NO_RESOURCES, f"longer than the Transfer MRU of {self._config.transfer_mru}")
        if announced is None:
            return
        # RFC 9174 §5.2.5.1: the Total Length is authoritative; data that differ are refused as "Not Acceptable".
        if total > announced or (head.flags & SegmentFlag.END and total != announced):
            raise _Refuse(RefusalCode.NOT_ACCEPTABLE, f"{total} octets of a transfer announced with {announced}")

    def _segment_done(self) -> None:
        """All octets of the segment are where they belong."""
        head, transfer = self._segment, self._current
        assert head is not None
        assert transfer is not None
        self._segment = None
        is_last = head.flags & SegmentFlag.END
        if is_last:
            self._current = None
        if transfer.mode is _Mode.REFUSED:
            return
        transfer.received += head.length
        if not is_last:
            self._out.put(encode_ack(Acknowledgment(head.flags, transfer.number, transfer.received)))
            return
        in_memory = transfer.received if transfer.mode is _Mode.GATHER else 0
        self._unsettled[transfer.number] = transfer.received
        self._unsettled_octets += in_memory
        if head.flags != WHOLE or in_memory != transfer.received:
            self._special[transfer.number] = head.flags, in_memory
        if transfer.mode is _Mode.GATHER:
            self._events.arrived.append((transfer.number, bytes(transfer.gathered)))
        else:
            self._events.emit(TransferReceived(transfer.number))

    # ---- the driver's answers ----------------------------------------------------------------------------------------

    def accept(self, number: int) -> None:
        """The sink for a started transfer is there."""
        transfer = self._current
        if transfer is None or transfer.number != number or transfer.mode is not _Mode.DECIDE:
            raise LocalProtocolError(f"transfer {number} does not wait to be accepted")
        transfer.mode = _Mode.SINK
        self.body_received(0)

    def acknowledge(self, numbers: Sequence[int]) -> None:
        """Complete transfers are kept: queue the XFER_ACKs of their END segments, in this order."""
        if not numbers:
            return
        take = self._unsettled.pop
        if self._special or self._refusals:
            for number in numbers:
                self._acknowledge_special(number)
            return
        try:
            lengths = [take(number) for number in numbers]
        except KeyError as error:
            raise LocalProtocolError(f"transfer {error} does not wait for an acknowledgement") from None
        self._unsettled_octets -= sum(lengths)
        self._out.put(b"".join(map(ACK.pack, repeat(2), repeat(3), numbers, lengths)))  # XFER_ACK, START and END

    def _acknowledge_special(self, number: int) -> None:
        if number not in self._unsettled or number in self._refusals:
            raise LocalProtocolError(f"transfer {number} does not wait for an acknowledgement")
        length = self._unsettled.pop(number)
        flags, in_memory = self._special.pop(number, (3, length))
        self._unsettled_octets -= in_memory
        # RFC 9174 §5.2.3: flags match those of the segment, "including flags not decodable to the entity".
        self._out.put(encode_ack(Acknowledgment(flags, number, length)))

    def refuse(self, number: int, code: RefusalCode) -> None:
        """A transfer in progress, or a complete one, is not wanted."""
        transfer = self._current
        if transfer is not None and transfer.number == number and transfer.mode in (_Mode.DECIDE, _Mode.SINK):
            self._refuse_current(code, "refused by the receiver")
            self.body_received(0)
            return
        if number not in self._unsettled or number in self._refusals:
            raise LocalProtocolError(f"transfer {number} cannot be refused any more")
        self._refusals[number] = code

    def _refuse_current(self, code: RefusalCode, text: str) -> None:
        transfer = self._current
        assert transfer is not None
        was_sunk = transfer.mode is _Mode.SINK
        transfer.mode = _Mode.REFUSED
        transfer.refusal = code
        transfer.gathered = bytearray()
        self._unsettled[transfer.number] = 0
        self._special[transfer.number] = 0, 0
        self._refusals[transfer.number] = code
        if was_sunk:
            self._events.emit(TransferAborted(transfer.number, text))

    def release_refusals(self) -> None:
        """Queue the refusals that may leave.

        RFC 9174 §5.2.4: "The receiver MUST, for each transfer preceding the one to be refused, have either acknowledged
        all XFER_SEGMENT messages or refused the bundle transfer"."""
        if not self._refusals:
            return
        ready = []
        for number in self._unsettled:
            if number not in self._refusals:
                break
            ready.append(number)
        for number in ready:
            length = self._unsettled.pop(number)
            _, in_memory = self._special.pop(number, (0, length))
            self._unsettled_octets -= in_memory
            self._out.put(REFUSE.pack(MessageType.XFER_REFUSE, self._refusals.pop(number), number))


def _announced_length(extensions: bytes) -> int | None:
    """What the Transfer Length Extension says, if there is one. Raises: _Refuse."""
    announced = None
    try:
        for item in decode_extensions_untrusted(extensions):
            if item.type == TRANSFER_LENGTH:
                if announced is not None:  # RFC 9174 §5.2.5.1: "Multiple ... SHALL NOT occur"
                    raise MalformedError("two Transfer Length items")
                announced = decode_transfer_length_untrusted(item)
            elif item.is_critical:  # RFC 9174 §5.2.5
                raise MalformedError(f"critical transfer extension 0x{item.type:04x} is unknown here")
    except MalformedError as error:
        raise _Refuse(RefusalCode.EXTENSION_FAILURE, str(error)) from None
    return announced
