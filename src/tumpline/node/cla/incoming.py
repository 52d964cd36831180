"""The transfers that one connection receives: kept until somebody takes them, as octets, as a file or as a descriptor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tumpline.drivers.links._api import Sink
from tumpline.drivers.payload import release
from tumpline.drivers.spool import OpenFile, memory_file, name_file, reading, write_file
from tumpline.machines.contract import FileRange, Octets, Payload
from tumpline.machines.effects import Arrival, RefuseReason
from tumpline.machines.tcpcl4.events import TransferStarted
from tumpline.node.cla.events import AgentEvent, ReceiveFinished, ReceiveProgressed, ReceiveStarted
from tumpline.node.cla.holdings import (
    PROGRESS_S,
    SUCCESS,
    TRANSFERS_MOST,
    UNACKNOWLEDGED,
    Holdings,
    TransferError,
    UnknownTransferError,
)

VALUE_OCTETS_MOST: Final = 64 << 20  # given away in one value: D-Bus has no longer arrays


class _Arriving:
    """A large transfer on its way in. Watcher of its sink."""

    __slots__ = ("_incoming", "_told_at", "number")

    def __init__(self, incoming: Incoming, number: int) -> None:
        self._incoming = incoming
        self._told_at = 0.0
        self.number = number

    def came(self, octets: int) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._told_at + PROGRESS_S:
            self._told_at = now
            self._incoming.progressed(self.number, octets)

    def dropped(self, octets: int) -> None:
        self._incoming.dropped(self, octets)


class Incoming:
    """`emptied` is called when the last of what was received has been taken."""

    def __init__(
        self,
        contact: int,
        holdings: Holdings,
        tell: Callable[[AgentEvent], None],
        emptied: Callable[[], None],
    ) -> None:
        self._contact = contact
        self._holdings = holdings
        self._tell = tell
        self._emptied = emptied
        self._starting: TransferStarted | None = None  # what `reserve` is asked for right after
        self._arriving: _Arriving | None = None
        self._received: dict[str, Payload] = {}
        self._in_hand: set[str] = set()  # of those, being copied to whoever takes them
        self._drop_result = ""  # what is told of `_arriving` if it is dropped

    @property
    def queue(self) -> list[str]:
        """Received bundles that nobody has taken."""
        return [number for number in self._received if number not in self._in_hand]

    @property
    def is_idle(self) -> bool:
        """Whether none is on its way."""
        return self._arriving is None

    # ---- what the session tells --------------------------------------------------------------------------------------

    def starts(self, event: TransferStarted) -> None:
        """A large transfer is announced; `reserve` follows."""
        self._starting = event

    def reserve(self, octets: int) -> Sink | RefuseReason:
        """Where the transfer goes that was just announced."""
        starting = self._starting
        assert starting is not None, "a sink was asked for before a transfer was announced"
        number = str(starting.transfer)
        reason = self._reason_against(number)
        if reason is not None:
            return reason
        arriving = _Arriving(self, starting.transfer)
        sink = self._holdings.spool.sink(octets, arriving)
        if not isinstance(sink, RefuseReason):
            self._arriving = arriving
            self._drop_result = RefuseReason.NO_RESOURCES.value  # unless the session says otherwise: the disk
            self._tell(ReceiveStarted(self._contact, number, starting.length))
        return sink

    def progressed(self, number: int, octets: int) -> None:
        """So much of it has come."""
        self._tell(ReceiveProgressed(self._contact, str(number), octets))

    def dropped(self, arriving: _Arriving, octets: int) -> None:
        """A transfer that had begun will not be completed."""
        self._arriving = None
        self._tell(ReceiveFinished(self._contact, str(arriving.number), octets, self._drop_result))

    def aborts(self, is_over: bool) -> None:
        """The transfer is dropped right after: the session is over, or the peer broke its own promise about it."""
        self._drop_result = UNACKNOWLEDGED if is_over else RefuseReason.NOT_ACCEPTABLE.value

    def arrived(self, arrival: Arrival) -> RefuseReason | None:
        """A transfer is there whole. None: it is kept."""
        number, payload = str(arrival.transfer), arrival.payload
        if payload is None:
            payload = Octets(arrival.data)
            reason = self._reason_against(number)
            if reason is not None:
                return reason
            if not self._holdings.received.take(payload.length):
                return RefuseReason.NO_RESOURCES
            self._tell(ReceiveStarted(self._contact, number, payload.length))
        else:
            self._arriving = None
        self._received[number] = payload
        self._tell(ReceiveFinished(self._contact, number, payload.length, SUCCESS))
        return None

    def _reason_against(self, number: str) -> RefuseReason | None:
        if number in self._received:
            return RefuseReason.NOT_ACCEPTABLE  # RFC 9174 §5.2.1: IDs are unique; the first one of this waits here
        return RefuseReason.NO_RESOURCES if len(self._received) >= TRANSFERS_MOST else None

    # ---- what people ask ---------------------------------------------------------------------------------------------

    async def pop_data(self, number: str) -> bytes:
        """Take a bundle as octets. Raises: UnknownTransferError, TransferError (too large for that), OSError."""
        payload = self._find(number)
        if isinstance(payload, Octets):
            self._remove(number)
            return payload.data
        if payload.length > VALUE_OCTETS_MOST:
            raise TransferError(
                f"bundle {number} has {payload.length} octets, more than one value of D-Bus holds: "
                "take it by recv_bundle_pop_file or recv_bundle_pop_fd"
            )
        with self._taking(number, payload):
            return await asyncio.to_thread(os.pread, _fd(payload), payload.length, 0)

    async def pop_file(self, number: str, path: str, mode: int) -> None:
        """Take a bundle as a new file. Raises: UnknownTransferError, OSError (FileExistsError ...): it stays here then."""
        payload = self._find(number)
        with self._taking(number, payload):
            if isinstance(payload, Octets):
                await write_file(payload.data, path, mode)
            else:
                await name_file(_fd(payload), path, mode)

    def pop_fd(self, number: str) -> int:
        """Take a bundle as an open file, the caller's. Raises: UnknownTransferError, OSError: it stays here then."""
        payload = self._find(number)
        fd = memory_file(payload.data) if isinstance(payload, Octets) else reading(_fd(payload))
        self._remove(number)
        return fd

    def discard(self) -> None:
        """Nobody will take what is left."""
        received, self._received = self._received, {}
        for payload in received.values():
            self._free(payload)

    def _find(self, number: str) -> Payload:
        payload = self._received.get(number)
        if payload is None or number in self._in_hand:
            raise UnknownTransferError(f"no received bundle {number!r} waits here; see recv_bundle_get_queue")
        return payload

    @contextmanager
    def _taking(self, number: str, payload: Payload) -> Iterator[None]:
        """While a bundle is copied nobody else takes it and its file stays open. If all goes well it is gone from here."""
        self._in_hand.add(number)
        if isinstance(payload, FileRange):
            payload.handle.retain()
        try:
            yield
        finally:
            self._in_hand.discard(number)
            release(payload)
        if number in self._received:
            self._remove(number)

    def _remove(self, number: str) -> None:
        self._free(self._received.pop(number))
        if not self._received:
            self._emptied()

    def _free(self, payload: Payload) -> None:
        release(payload)
        room = self._holdings.spool.room if isinstance(payload, FileRange) else self._holdings.received
        room.give(payload.length)


def _fd(payload: FileRange) -> int:
    assert isinstance(payload.handle, OpenFile)
    return payload.handle.fd
