"""The transfers of one TCPCLv4 session: received bodies on their way into sinks, units on their way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tumpline.drivers.links._api import LinkHost, Sink
from tumpline.drivers.links._units import put, release, unit_range, whole
from tumpline.drivers.stream import Piece
from tumpline.errors import MalformedError, PayloadGoneError, StorageError, TumplineError
from tumpline.machines.effects import Arrival, RefuseReason, Unit
from tumpline.machines.tcpcl4.events import (
    BodyRange,
    SegmentStarted,
    TransferAborted,
    TransferProgress,
    TransferReceived,
    TransferRefused,
    TransfersAcked,
    TransfersLost,
    TransfersReceived,
    TransferStarted,
)
from tumpline.machines.tcpcl4.session import Session
from tumpline.wire.tcpcl4 import RefusalCode

REFUSAL_CODES = {
    RefuseReason.NO_RESOURCES: RefusalCode.NO_RESOURCES,
    RefuseReason.COMPLETED: RefusalCode.COMPLETED,
    RefuseReason.RETRANSMIT: RefusalCode.RETRANSMIT,
    RefuseReason.NOT_ACCEPTABLE: RefusalCode.NOT_ACCEPTABLE,
}
REFUSE_REASONS = {code: reason for reason, code in REFUSAL_CODES.items()}  # others say: try again


class Transfers:
    """Between session and host. `handlers` says which events are answered here."""

    def __init__(
        self,
        session: Session,
        host: LinkHost,
        address: str,
        time: Callable[[], float],
        begun: Callable[[int], None] | None = None,
    ) -> None:
        """`begun` is told of each unit whose octets are taken piece by piece, before its first ones."""
        self.path = -1  # until the session is established
        self._begun = begun
        self._session = session
        self._host = host
        self._address = address
        self._time = time
        self._sinks: dict[int, Sink] = {}
        self._units: dict[int, Unit] = {}  # those whose octets are taken piece by piece
        self._unreadable: int | None = None  # the unit whose payload is gone from the disk
        self._ended: list[Unit] = []  # to be released once nothing of them waits in the stream
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            TransfersReceived: self._on_received,
            TransfersAcked: self._on_acked,
            TransferStarted: self._on_started,
            SegmentStarted: self._on_segment,
            TransferReceived: self._on_complete,
            TransferAborted: self._on_aborted,
            TransferProgress: self._on_progress,
            TransferRefused: self._on_refused,
            TransfersLost: self._on_lost,
        }

    # ---- units out ---------------------------------------------------------------------------------------------------

    def offer(self, units: Sequence[Unit]) -> None:
        """Hand the units to the session, in order."""
        send, now = self._session.send, self._time()
        for unit in units:
            data = whole(unit)
            if data is None:
                self._units[unit.seq] = unit
                send(unit.seq, unit.length, None, now)
            else:
                send(unit.seq, len(data), data, now)

    def resolve(self, pieces: list[bytes | BodyRange]) -> list[Piece]:
        """What the session gave to be sent, as the stream sends it. Raises: StorageError."""
        found: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, BodyRange):
                if not piece.offset and self._begun is not None:
                    self._begun(piece.token)
                try:
                    found += unit_range(self._units[piece.token], piece.offset, piece.length)
                except PayloadGoneError:
                    self._unreadable = piece.token
                    raise
            else:
                found.append(piece)
        return found

    def _on_acked(self, event: TransfersAcked) -> None:
        self._end_units(event.tokens)
        self._host.acked(self.path, event.tokens)

    def _on_lost(self, event: TransfersLost) -> None:
        self._end_units(event.tokens)
        tokens = event.tokens
        if self._unreadable in tokens:
            # Offered again, it would end each session to come, and nothing behind it would ever get through.
            self._host.refused(self.path, self._unreadable, RefuseReason.NOT_ACCEPTABLE)
            tokens = [token for token in tokens if token != self._unreadable]
        if tokens:
            self._host.lost(self.path, tokens)

    def _on_refused(self, event: TransferRefused) -> None:
        self._end_units((event.token,))
        reason = REFUSE_REASONS.get(event.reason, RefuseReason.RETRANSMIT)
        self._host.refused(self.path, event.token, reason)

    def _on_progress(self, event: TransferProgress) -> None:
        self._host.progress(self.path, event.token, event.octets)

    def _end_units(self, tokens: Sequence[int]) -> None:
        """Handles stay retained while octets of them wait in the stream."""
        if self._units:
            for token in tokens:
                unit = self._units.pop(token, None)
                if unit is not None:
                    self._ended.append(unit)

    def release_ended(self) -> None:
        """Nothing of units that have ended waits in the stream any more."""
        units, self._ended = self._ended, []
        for unit in units:
            release(unit)

    # ---- bodies in ---------------------------------------------------------------------------------------------------

    def room(self, transfer: int, most: int) -> memoryview:
        """Where up to `most` octets of the body go; then `advance`."""
        return self._sinks[transfer].buffer(most)[:most]

    def advance(self, transfer: int, count: int) -> None:
        """So many octets were put there."""
        try:
            self._sinks[transfer].advance(count)
        except (StorageError, MalformedError) as error:
            self._refuse_sink(transfer, error)
        self._session.body_received(count, self._time())

    def _on_received(self, event: TransfersReceived) -> None:
        self._host.received(self.path, [Arrival(number, data) for number, data in event.transfers])

    def _on_started(self, event: TransferStarted) -> None:
        number = event.transfer
        sink = self._host.reserve(self.path, event.octets)
        now = self._time()
        if isinstance(sink, RefuseReason):
            self._session.refuse(number, REFUSAL_CODES[sink], now)
            return
        self._sinks[number] = sink
        self._session.accept(number, now)
        try:
            put(sink, event.prefix)
        except (StorageError, MalformedError) as error:
            self._refuse_sink(number, error)

    def _on_segment(self, event: SegmentStarted) -> None:
        sink = self._sinks.get(event.transfer)
        reason = sink.more(event.octets) if sink is not None else None
        if reason is not None:
            self._session.refuse(event.transfer, REFUSAL_CODES[reason], self._time())

    def _on_complete(self, event: TransferReceived) -> None:
        sink = self._sinks.get(event.transfer)
        if sink is None:  # it was refused with its last octets
            return
        try:
            arrival = sink.finish(event.transfer)
        except (StorageError, MalformedError) as error:
            self._refuse_sink(event.transfer, error)
            return
        del self._sinks[event.transfer]
        self._host.received(self.path, [arrival])

    def _on_aborted(self, event: TransferAborted) -> None:
        sink = self._sinks.pop(event.transfer, None)
        if sink is not None:
            sink.abort()

    def _refuse_sink(self, transfer: int, error: TumplineError) -> None:
        """What comes cannot be kept: no room (try again), or it is no bundle (never again)."""
        self._sinks.pop(transfer).abort()
        reason = RefuseReason.NOT_ACCEPTABLE if isinstance(error, MalformedError) else RefuseReason.NO_RESOURCES
        self._session.refuse(transfer, REFUSAL_CODES[reason], self._time())
        self._host.notice("transfer_refused", path=self.path, address=self._address, reason=str(error))
