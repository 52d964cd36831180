"""The transfers of one TCPCLv4 session: received bodies on their way into sinks, units on their way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tumpline.drivers.links._api import LinkHost
from tumpline.drivers.links._sinks import Sinks
from tumpline.drivers.links._units import LongUnits, release, whole
from tumpline.drivers.stream import Piece
from tumpline.errors import PayloadGoneError
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
        self._time = time
        self._sinks = Sinks(host, address, self._refuse)
        self.room = self._sinks.room  # itself, with no call between: it is asked before each read of a body
        self._ended: list[Unit] = []  # to be released once nothing of them waits in the stream
        self._units = LongUnits(self._ended.append)
        self._unreadable: int | None = None  # the unit whose payload is gone from the disk
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            TransfersReceived: self._on_received,
            TransfersAcked: self._on_acked,
            TransferStarted: self._on_started,
            SegmentStarted: lambda event: self._sinks.more(event.transfer, event.octets),
            TransferReceived: lambda event: self._sinks.finish(self.path, event.transfer),
            TransferAborted: lambda event: self._sinks.abort(event.transfer),
            TransferProgress: lambda event: self._host.progress(self.path, event.token, event.octets),
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
                self._units.add(unit)
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
                    found += self._units.pieces(piece.token, piece.offset, piece.length)
                except PayloadGoneError:
                    self._unreadable = piece.token
                    raise
            else:
                found.append(piece)
        return found

    def _on_acked(self, event: TransfersAcked) -> None:
        self._units.end(event.tokens)
        self._host.acked(self.path, event.tokens)

    def _on_lost(self, event: TransfersLost) -> None:
        self._units.end(event.tokens)
        tokens = event.tokens
        if self._unreadable in tokens:
            # Offered again, it would end each session to come, and nothing behind it would ever get through.
            self._host.refused(self.path, self._unreadable, RefuseReason.NOT_ACCEPTABLE)
            tokens = [token for token in tokens if token != self._unreadable]
        if tokens:
            self._host.lost(self.path, tokens)

    def _on_refused(self, event: TransferRefused) -> None:
        self._units.end((event.token,))
        reason = REFUSE_REASONS.get(event.reason, RefuseReason.RETRANSMIT)
        self._host.refused(self.path, event.token, reason)

    def release_ended(self) -> None:
        """Nothing of units that have ended waits in the stream any more."""
        for unit in self._ended:
            release(unit)
        self._ended.clear()

    # ---- bodies in ---------------------------------------------------------------------------------------------------

    def advance(self, transfer: int, count: int) -> None:
        """So many octets were put where `room` said."""
        self._sinks.advance(self.path, transfer, count)
        self._session.body_received(count, self._time())

    def _on_received(self, event: TransfersReceived) -> None:
        self._host.received(self.path, [Arrival(number, data) for number, data in event.transfers])

    def _on_started(self, event: TransferStarted) -> None:
        if self._sinks.begin(self.path, event.transfer, event.octets):
            self._session.accept(event.transfer, self._time())
            self._sinks.put(self.path, event.transfer, event.prefix)

    def _refuse(self, transfer: int, reason: RefuseReason) -> None:
        self._session.refuse(transfer, REFUSAL_CODES[reason], self._time())
