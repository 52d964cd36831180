"""Bundles that a UDPCL agent is to send: some wait, some are with their conversation, each ends once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from tumpline.drivers.links._udpcl_endpoint import UdpclEndpoint
from tumpline.drivers.links._udpcl_talk import Talk
from tumpline.drivers.payload import read_range, release
from tumpline.drivers.spool import Room
from tumpline.errors import StorageError
from tumpline.machines.contract import Octets, Payload
from tumpline.node.cla.holdings import SUCCESS, TRANSFERS_MOST, QueueFullError
from tumpline.node.cla.udpcl_events import BundleSendFinished, BundleSendStarted, Where

AHEAD_OCTETS: Final = 512 << 10  # handed to a conversation ahead of what it has sent: the rest waits where it lies


class _Sending(NamedTuple):
    """A bundle that is to be sent."""

    number: int
    payload: Payload
    in_memory: int  # octets lent of the room


class Line:
    """What an agent keeps of a conversation: `Talk.owner`."""

    __slots__ = ("given", "searches", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Sending] = deque()
        self.given: dict[int, _Sending] = {}  # to the conversation
        self.searches: list[Where] = []  # for the path MTU, as asked


def line_of(talk: Talk) -> Line:
    """Of this conversation; a new one has an empty one."""
    if talk.owner is None:
        talk.owner = Line()
    found: Line = talk.owner
    return found


class Outbox:
    """`tell` hears of each bundle's beginning and end, `ended` is called after each end."""

    def __init__(
        self, room: Room, tell: Callable[[BundleSendStarted | BundleSendFinished], None], ended: Callable[[], None]
    ) -> None:
        self.count = 0  # that have not ended
        self._room = room  # of octets in memory
        self._tell = tell
        self._ended = ended

    def put(self, endpoint: UdpclEndpoint, talk: Talk, number: int, payload: Payload) -> None:
        """Queue one. Its payload's one reader is the bundle from now on. Raises: QueueFullError (it is not)."""
        in_memory = payload.length if isinstance(payload, Octets) else 0
        if self.count >= TRANSFERS_MOST:
            raise QueueFullError(f"{TRANSFERS_MOST} bundles wait to be sent: wait for send_bundle_finished")
        if not self._room.take(in_memory):
            raise QueueFullError(
                f"{self._room.octets_most} octets wait to be sent: wait for send_bundle_finished, or send files"
            )
        self.count += 1
        line_of(talk).waiting.append(_Sending(number, payload, in_memory))
        # Who asked is told the number first.
        asyncio.get_running_loop().call_soon(self.feed, endpoint, talk)

    def feed(self, endpoint: UdpclEndpoint, talk: Talk) -> None:
        """As much goes to the conversation as it can soon send."""
        line = line_of(talk)
        if talk.is_over:
            self.fail(talk, [], "the conversation is over")
            return
        room = AHEAD_OCTETS - talk.machine.outbox.queued_octets
        given: list[tuple[int, bytes]] = []
        while line.waiting and room > 0:
            sending = line.waiting.popleft()
            self._begin(line, sending)
            try:
                data = read_range(sending.payload, 0, sending.payload.length)
            except (StorageError, OSError) as error:
                self._end(line, sending.number, str(error))
                continue
            given.append((sending.number, data))
            room -= len(data)
        if given:
            endpoint.send(talk, given)

    def sent(self, talk: Talk, numbers: list[int]) -> None:
        """All that UDPCL can say of a bundle: it went."""
        for number in numbers:
            self._end(line_of(talk), number, SUCCESS)

    def fail(self, talk: Talk, numbers: list[int], reason: str) -> None:
        """These did not go, and those behind them will not either."""
        line = line_of(talk)
        for number in numbers:
            self._end(line, number, reason)
        while line.waiting:
            sending = line.waiting.popleft()
            line.given[sending.number] = sending
            self._end(line, sending.number, reason)

    def _begin(self, line: Line, sending: _Sending) -> None:
        line.given[sending.number] = sending
        self._tell(BundleSendStarted(str(sending.number), sending.payload.length))

    def _end(self, line: Line, number: int, result: str) -> None:
        sending = line.given.pop(number)
        self._room.give(sending.in_memory)
        release(sending.payload)
        self.count -= 1
        self._tell(BundleSendFinished(str(number), sending.payload.length, result))
        self._ended()
