"""The transfers of one conversation: received bodies on their way into sinks, units on their way into messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from tumpline.drivers.links._api import LinkHost, Sink
from tumpline.drivers.links._units import put, release, unit_range, whole
from tumpline.drivers.stream import FileSlice
from tumpline.errors import MalformedError, PayloadGoneError, StorageError, TumplineError
from tumpline.machines.effects import Arrival, RefuseReason, Unit
from tumpline.machines.overlay.bundle_events import (
    SegmentReceived,
    TransferAborted,
    TransferFinished,
    TransferProgressed,
    TransferRefused,
    TransfersAcked,
    TransfersLost,
    TransfersReceived,
    TransferStarted,
)
from tumpline.machines.overlay.bundles import Conversation, Pieces
from tumpline.machines.overlay.numbered import BodyRange

NO_PATH: Final = -1


class Transfers:
    """Between a conversation and the host. `handlers` says which events are answered here."""

    def __init__(self, conversation: Conversation, host: LinkHost, member: str) -> None:
        self.path = NO_PATH  # until there is a session
        self._conversation = conversation
        self._host = host
        self._member = member
        self._sinks: dict[int, Sink] = {}
        self._units: dict[int, Unit] = {}  # those whose octets are taken when their messages go
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            TransfersReceived: self._on_received,
            TransferStarted: self._on_started,
            SegmentReceived: self._on_segment,
            TransferFinished: self._on_finished,
            TransferAborted: self._on_aborted,
            TransfersAcked: self._on_acked,
            TransferRefused: self._on_refused,
            TransfersLost: self._on_lost,
            TransferProgressed: lambda event: self._host.progress(self.path, event.token, event.octets),
        }

    # ---- units out ---------------------------------------------------------------------------------------------------

    def offer(self, units: Sequence[Unit]) -> None:
        """Hand the units to the conversation, in order."""
        send = self._conversation.send
        for unit in units:
            data = whole(unit)
            if data is None:
                self._units[unit.seq] = unit
                send(unit.seq, unit.length, None)
            else:
                send(unit.seq, len(data), data)

    def resolve(self, pieces: Pieces, now: float) -> bytes | None:
        """The octets of a message; None: a payload is gone, and the conversation knows. Raises: StorageError."""
        found: list[bytes | memoryview] = []
        for piece in pieces:
            if isinstance(piece, BodyRange):
                try:
                    found += self._read(piece)
                except PayloadGoneError:
                    self._conversation.unreadable(piece.token, now)
                    return None
            else:
                found.append(piece)
        return b"".join(found)

    def _read(self, body: BodyRange) -> list[bytes | memoryview]:
        """Raises: StorageError."""
        found: list[bytes | memoryview] = []
        for piece in unit_range(self._units[body.token], body.offset, body.length):
            if isinstance(piece, FileSlice):
                octets = os.pread(piece.fd, piece.length, piece.offset)
                if len(octets) < piece.length:
                    raise PayloadGoneError("a payload file was cut while it was read")
                found.append(octets)
            else:
                found.append(piece)
        return found

    def _on_acked(self, event: TransfersAcked) -> None:
        self._end_units(event.tokens)
        self._host.acked(self.path, event.tokens)

    def _on_lost(self, event: TransfersLost) -> None:
        self._end_units(event.tokens)
        self._host.lost(self.path, event.tokens)

    def _on_refused(self, event: TransferRefused) -> None:
        self._end_units((event.token,))
        self._host.refused(self.path, event.token, event.reason)

    def _end_units(self, tokens: Sequence[int]) -> None:
        if self._units:
            for token in tokens:
                unit = self._units.pop(token, None)
                if unit is not None:
                    release(unit)

    # ---- bodies in ---------------------------------------------------------------------------------------------------

    def _on_received(self, event: TransfersReceived) -> None:
        self._host.received(self.path, [Arrival(number, data) for number, data in event.transfers])

    def _on_started(self, event: TransferStarted) -> None:
        sink = self._host.reserve(self.path, event.octets)
        if isinstance(sink, RefuseReason):
            self._conversation.refuse(event.transfer, sink)
        else:
            self._sinks[event.transfer] = sink

    def _on_segment(self, event: SegmentReceived) -> None:
        sink = self._sinks.get(event.transfer)
        if sink is None:  # refused
            return
        try:
            put(sink, event.octets)
        except (StorageError, MalformedError) as error:
            self._refuse_sink(event.transfer, error)

    def _on_finished(self, event: TransferFinished) -> None:
        sink = self._sinks.get(event.transfer)
        if sink is None:
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
        self._conversation.refuse(transfer, reason)
        self._host.notice("transfer_refused", path=self.path, address=self._member, reason=str(error))
