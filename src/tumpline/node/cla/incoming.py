"""The transfers that one connection receives: kept until somebody takes them, as octets, as a file or as a descriptor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tumpline.drivers.links._api import Sink
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Arrival, RefuseReason
from tumpline.machines.tcpcl4.events import TransferStarted
from tumpline.node.cla.events import AgentEvent, ReceiveFinished, ReceiveProgressed, ReceiveStarted
from tumpline.node.cla.holdings import (
    HELD_OCTETS,
    PROGRESS_S,
    SUCCESS,
    TRANSFERS_MOST,
    UNACKNOWLEDGED,
    Holdings,
    UnknownTransferError,
)
from tumpline.node.cla.received import Received


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


class Incoming(Received):
    """`emptied` is called when the last of what was received has been taken."""

    def __init__(
        self,
        contact: int,
        holdings: Holdings,
        tell: Callable[[AgentEvent], None],
        emptied: Callable[[], None],
    ) -> None:
        super().__init__(holdings, emptied)
        self._contact = contact
        self._tell = tell
        self._starting: TransferStarted | None = None  # what `reserve` is asked for right after
        self._arriving: _Arriving | None = None
        self._drop_result = ""  # what is told of `_arriving` if it is dropped
        self._held: dict[str, int] = {}  # whose senders wait to hear what whoever takes them makes of them

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
            if not self._holdings.received.take(payload.length + HELD_OCTETS):
                return RefuseReason.NO_RESOURCES
            self._tell(ReceiveStarted(self._contact, number, payload.length))
        else:
            self._arriving = None
        self.keep(number, payload)
        self._tell(ReceiveFinished(self._contact, number, payload.length, SUCCESS))
        return None

    # ---- those that are answered by whoever takes them ---------------------------------------------------------------

    def hold(self, transfer: int) -> None:
        """The sender of this one, which has just arrived, hears of it when it is answered."""
        self._held[str(transfer)] = transfer

    def answer(self, number: str, *, drops: bool) -> int:
        """Whoever took it (or will) has said what becomes of it. `drops`: if it waits here still, it goes. Returns: the
        transfer. Raises: UnknownTransferError (its sender has its answer already)."""
        transfer = self._held.pop(number, None)
        if transfer is None:
            raise UnknownTransferError(f"the sender of bundle {number!r} has its answer, or there is no such bundle")
        if drops and number in self._received and number not in self._in_hand:
            self._remove(number)
        return transfer

    def let_go(self, *, keeps_waiting: bool) -> tuple[list[int], list[int]]:
        """Nobody answers any more: transfers that still wait here, and those that somebody took without a word. With
        `keeps_waiting` the former wait for the next one who answers, and are none of the result."""
        held = self._held
        waiting = {number: transfer for number, transfer in held.items() if number in self._received}
        taken = [transfer for number, transfer in held.items() if number not in self._received]
        self._held = waiting if keeps_waiting else {}
        return [] if keeps_waiting else list(waiting.values()), taken

    # ---- bounds ------------------------------------------------------------------------------------------------------

    def _reason_against(self, number: str) -> RefuseReason | None:
        if number in self._received or number in self._held:
            return RefuseReason.NOT_ACCEPTABLE  # RFC 9174 §5.2.1: IDs are unique; the first one of this waits here
        return RefuseReason.NO_RESOURCES if len(self._received) >= TRANSFERS_MOST else None
