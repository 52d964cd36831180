"""The transfers of one conversation: received bodies on their way into sinks, units on their way into messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from tumpline.drivers.links._api import LinkHost
from tumpline.drivers.links._sinks import Sinks
from tumpline.drivers.links._units import LongUnits, whole
from tumpline.drivers.stream import FileSlice
from tumpline.errors import PayloadGoneError
from tumpline.machines.effects import Arrival, Unit
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
        self._sinks = Sinks(host, member, conversation.refuse)
        self._units = LongUnits()  # those whose octets are taken when their messages go
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            TransfersReceived: self._on_received,
            TransferStarted: self._on_started,
            SegmentReceived: lambda event: self._sinks.put(self.path, event.transfer, event.octets),
            TransferFinished: lambda event: self._sinks.finish(self.path, event.transfer),
            TransferAborted: lambda event: self._sinks.abort(event.transfer),
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
                self._units.add(unit)
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
        for piece in self._units.pieces(body.token, body.offset, body.length):
            if isinstance(piece, FileSlice):
                octets = os.pread(piece.fd, piece.length, piece.offset)
                if len(octets) < piece.length:
                    raise PayloadGoneError("a payload file was cut while it was read")
                found.append(octets)
            else:
                found.append(piece)
        return found

    def _on_acked(self, event: TransfersAcked) -> None:
        self._units.end(event.tokens)
        self._host.acked(self.path, event.tokens)

    def _on_lost(self, event: TransfersLost) -> None:
        self._units.end(event.tokens)
        self._host.lost(self.path, event.tokens)

    def _on_refused(self, event: TransferRefused) -> None:
        self._units.end((event.token,))
        self._host.refused(self.path, event.token, event.reason)

    # ---- bundles in --------------------------------------------------------------------------------------------------

    def _on_received(self, event: TransfersReceived) -> None:
        self._host.received(self.path, [Arrival(number, data) for number, data in event.transfers])

    def _on_started(self, event: TransferStarted) -> None:
        self._sinks.begin(self.path, event.transfer, event.octets)
