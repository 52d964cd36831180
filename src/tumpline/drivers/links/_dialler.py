"""Holding a session with one address: dial, wait until it has ended, back off, dial again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Protocol

from tumpline.drivers.dial import Address, DialError, dial
from tumpline.machines.backoff import Backoff
from tumpline.wire.eid import Eid

# A session that lasted so long was no failure: the next attempt after it comes soon.
SETTLED_S = 5.0


class Held(Protocol):
    """The connection that a dialler holds."""

    def terminate(self, text: str) -> None:
        """End its session in order."""


class Dialler:
    """`keep` runs as a task of the link until it is cancelled."""

    def __init__(self, address: Address, peer: Eid | None, backoff: Backoff) -> None:
        self.address = address
        self.peer = peer  # the node that must answer there, if we know
        self.held: Held | None = None
        self.failure = ""  # why the last session ended, or none began
        self.task: asyncio.Task[None] | None = None
        self._backoff = backoff
        self._ended = asyncio.Event()
        self._was_up = False  # the last connection became a session
        self._retry_at = 0.0

    async def keep(
        self,
        dial_s: float,
        open_connection: Callable[[socket.socket, Dialler], Held],
        failed: Callable[[Dialler, float], None],
    ) -> None:
        """`open_connection` takes the socket; `failed` is told of attempts that came to nothing: seconds until the next."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._was_up = False
            try:
                sock = await dial(self.address, dial_s)
                self._ended.clear()
                self.held = open_connection(sock, self)
                await self._ended.wait()
                self.held = None
            except DialError as error:
                self.failure = str(error)
            else:
                if self._was_up and loop.time() - began >= SETTLED_S:
                    self._backoff.reset()
            delay_s = self._backoff.next_delay_s()
            self._retry_at = loop.time() + delay_s
            if not self._was_up:
                failed(self, delay_s)
            await asyncio.sleep(delay_s)

    def ended(self, reason: str, was_up: bool) -> None:
        """The session that was held is over, or never began."""
        self.failure, self._was_up = reason, was_up
        self._ended.set()

    def cease(self) -> None:
        """Dial no more; a session that is held stays."""
        if self.task is not None:
            self.task.cancel()

    def stop(self, reason: str) -> None:
        """Dial no more; a session that is held ends in order."""
        self.cease()
        if self.held is not None:
            self.held.terminate(reason)

    def describe(self) -> dict[str, Any]:
        """Snapshot for people."""
        return {
            "address": str(self.address),
            "peer": str(self.peer) if self.peer is not None else None,
            "connected": self.held is not None,
            "failures": self._backoff.attempts,
            "last_failure": self.failure,
            "retry_in_s": round(max(0.0, self._retry_at - asyncio.get_running_loop().time()), 3),
        }
