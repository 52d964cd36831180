"""Senders on this node are pushed back when its quota is reached, and go on by themselves: how they wait for room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol

from tumpline.errors import NoAnswerError, NoRoomError, RefusedError, StorageError
from tumpline.machines.effects import Adu
from tumpline.node.services._payload import give_back

RETRY_S = 5.0  # when the store fails
LOOK_S = 1.0  # at a stretch; then whoever listens is told, so that a listener who has gone is found out


class Sender(Protocol):
    """A ServiceContext, or the agent itself."""

    def send(self, adu: Adu) -> asyncio.Future[str]: ...

    def room(self, adus: Sequence[Adu], most_s: float) -> Coroutine[None, None, int]: ...


class Patience:
    """How long one sender waits for room: `wait_s` from one success to the next, or (None) as long as it takes."""

    def __init__(self, sender: Sender, wait_s: float | None) -> None:
        self._sender = sender
        self._wait_s = wait_s
        self._waited_s = 0.0

    async def room(self, adus: Sequence[Adu], error: NoRoomError) -> int:
        """Wait a while for room, of which there was none because of `error`; how many of the ADUs fit now, perhaps 0.

        Raises: NoAnswerError (none came in time), RefusedError (too many wait)."""
        left_s = LOOK_S if self._wait_s is None else min(LOOK_S, self._wait_s - self._waited_s)
        if left_s <= 0:
            raise NoAnswerError(f"no room came within {self._wait_s:g} s: {error}") from error
        began = asyncio.get_running_loop().time()
        fit = await self._sender.room(adus, left_s)
        self._waited_s = 0.0 if fit else self._waited_s + max(left_s, asyncio.get_running_loop().time() - began)
        return fit

    async def pause(self, adus: Sequence[Adu], error: StorageError) -> None:
        """As `room`, also for those who try again after a store that failed: there is nothing to ask then, only time."""
        if isinstance(error, NoRoomError):
            await self.room(adus, error)
            return
        left_s = RETRY_S if self._wait_s is None else min(RETRY_S, self._wait_s - self._waited_s)
        if left_s <= 0:
            raise NoAnswerError(f"not stored within {self._wait_s:g} s: {error}") from error
        await asyncio.sleep(left_s)
        self._waited_s += left_s


async def send(sender: Sender, adu: Adu, wait_s: float | None, tell: Callable[[str], None]) -> str:
    """Send one ADU as soon as there is room; the identity of its bundle. While it waits, `tell` hears why about once a
    second. A payload that is not taken is freed. Raises: NoAnswerError (no room in time), RefusedError, StorageError."""
    patience = Patience(sender, wait_s)
    while True:
        try:
            return await sender.send(adu)
        except NoRoomError as full:
            try:
                tell(str(full))
                while not await patience.room([adu], full):
                    tell(str(full))
            except BaseException:
                give_back(adu.payload)
                raise
        except (RefusedError, StorageError):
            give_back(adu.payload)
            raise
