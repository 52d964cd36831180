"""The transfers that one connection sends: numbered as they are asked for, each told from its begin to its one end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tumpline.drivers.payload import release
from tumpline.drivers.spool import BytesHandle, Room
from tumpline.machines.contract import FileRange, Octets, Payload
from tumpline.machines.effects import RefuseReason, Unit
from tumpline.node.cla.events import AgentEvent, SendFinished, SendProgressed, SendStarted
from tumpline.node.cla.holdings import (
    NEVER_BEGAN,
    PROGRESS_S,
    SUCCESS,
    TRANSFERS_MOST,
    UNACKNOWLEDGED,
    QueueFullError,
)

FILES_MOST = 256  # that wait to be sent over one connection: each holds a descriptor


class _Sending:
    """A transfer on its way out."""

    __slots__ = ("begun", "in_memory", "offered", "payload", "told_at")

    def __init__(self, payload: Payload, in_memory: int | None) -> None:
        self.payload = payload
        self.in_memory = in_memory  # octets lent of the room; None: a file
        self.offered = False  # the link has it, and gives the payload back
        self.begun = False
        self.told_at = 0.0


class Link(Protocol):
    """Where transfers go."""

    def offer(self, path: int, unit: Unit) -> None:
        """Send it over this path; the link gives the payload back."""


class Outgoing:
    """Transfers wait until `up`, then the link has them; after `end` none begins."""

    def __init__(self, contact: int, link: Link, room: Room, tell: Callable[[AgentEvent], None]) -> None:
        self._contact = contact
        self._link = link
        self._room = room
        self._tell = tell
        self._sending: dict[int, _Sending] = {}
        self._last = 0  # number
        self._files = 0  # of those that are held, how many hold a descriptor
        self.path = -1  # until transfers can be sent
        self._is_ending = False

    @property
    def queue(self) -> list[str]:
        """Transfers that have not ended."""
        return [str(number) for number in self._sending]

    # ---- what people ask ---------------------------------------------------------------------------------------------

    def send_data(self, data: bytes) -> str:
        """Queue a transfer; its number. Raises: QueueFullError."""
        self._check()
        if not self._room.take(len(data)):
            text = (
                f"{self._room.octets_most} octets wait to be sent at most: wait for send_bundle_finished, or send files"
            )
            raise QueueFullError(text)
        # As a handle even if small: the link then tells when it begins.
        payload = FileRange(BytesHandle(data), 0, len(data)) if data else Octets(b"")
        return self._send(_Sending(payload, len(data)))

    def send_file(self, payload: FileRange) -> str:
        """Queue an open file, whose one reader is the transfer from now on; its number. Raises: QueueFullError."""
        try:
            self._check()
            if self._files >= FILES_MOST:
                raise QueueFullError(f"{FILES_MOST} files wait to be sent here: wait for send_bundle_finished")
        except QueueFullError:
            release(payload)
            raise
        self._files += 1
        return self._send(_Sending(payload, None))

    def _check(self) -> None:
        if len(self._sending) >= TRANSFERS_MOST:
            raise QueueFullError(f"{TRANSFERS_MOST} transfers wait to be sent here: wait for send_bundle_finished")

    def _send(self, sending: _Sending) -> str:
        self._last += 1
        number = self._last
        self._sending[number] = sending
        if self._is_ending:  # who asked is told the number first
            asyncio.get_running_loop().call_soon(self.lost, number)
        elif self.path >= 0:
            self._offer(number, sending)
        return str(number)

    def _offer(self, number: int, sending: _Sending) -> None:
        sending.offered = True
        self._link.offer(self.path, Unit(number, b"", sending.payload, b""))

    # ---- what the session tells --------------------------------------------------------------------------------------

    def up(self, path: int) -> None:
        """Transfers may be sent over this path: those that waited for it are."""
        self.path = path
        for number, sending in self._sending.items():
            self._offer(number, sending)

    def end(self) -> None:
        """No transfer begins any more."""
        self._is_ending = True

    def begun(self, number: int) -> None:
        """The first octets of a transfer leave."""
        sending = self._sending.get(number)
        if sending is not None and not sending.begun:
            sending.begun = True
            self._tell(SendStarted(self._contact, str(number), sending.payload.length))

    def progressed(self, number: int, octets: int) -> None:
        """The peer has so much of it."""
        sending, now = self._sending[number], asyncio.get_running_loop().time()
        if now >= sending.told_at + PROGRESS_S:
            sending.told_at = now
            self._tell(SendProgressed(self._contact, str(number), octets))

    def acked(self, number: int) -> None:
        """The peer has it."""
        self.begun(number)  # of empty ones the link does not tell
        self._end(number, SUCCESS)

    def refused(self, number: int, reason: RefuseReason) -> None:
        """The peer (or the link, for what the peer does not take) refused it."""
        self._end(number, reason.value)

    def lost(self, number: int) -> None:
        """Its session has ended before it did."""
        sending = self._sending.get(number)
        if sending is not None:
            self._end(number, NEVER_BEGAN if self._is_ending and not sending.begun else UNACKNOWLEDGED)

    def closed(self) -> None:
        """The connection is gone."""
        for number in list(self._sending):
            self.lost(number)
        self._is_ending = True

    def _end(self, number: int, result: str) -> None:
        sending = self._sending.pop(number)
        if sending.in_memory is None:
            self._files -= 1
        else:
            self._room.give(sending.in_memory)
        if not sending.offered:
            release(sending.payload)
        self._tell(SendFinished(self._contact, str(number), sending.payload.length, result))
