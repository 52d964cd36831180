"""Local senders that wait for room in the store: in line, and woken as soon as there is some."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tumpline.errors import RefusedError
from tumpline.machines.effects import Adu

MAX_WAITING = 1024  # senders at a time; each holds a client's connection and one ADU (a source: a few batches)


class Waiter(NamedTuple):
    """One sender, and the ADU that it wants to be taken first."""

    adu: Adu
    woken: asyncio.Future[None]


class RoomLine:
    """Two lines: ADUs for this node may fill the store higher than others, which must not stand in their way.

    `fits` tells how many of some ADUs, from the first on, the store has room for now."""

    def __init__(self, fits: Callable[[Sequence[Adu]], int]) -> None:
        self._fits = fits
        self._lines: dict[bool, deque[Waiter]] = {False: deque(), True: deque()}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def look(self) -> None:
        """Wake those at the head for whom there is room by now."""
        for line in self._lines.values():
            woken: list[Adu] = []
            while line and self._fits([*woken, line[0].adu]) > len(woken):
                waiter = line.popleft()
                woken.append(waiter.adu)
                if not waiter.woken.done():
                    waiter.woken.set_result(None)

    async def wait(self, adus: Sequence[Adu], most_s: float, *, own: bool) -> int:
        """Until there is room for the first of them, or `most_s` are over: somebody in line may want more room than there
        will ever be. Returns how many there is room for. Raises: RefusedError (too many wait)."""
        if not (fit := self._fits(adus)):
            if len(self) >= MAX_WAITING:
                raise RefusedError(f"the store is full, and {MAX_WAITING} senders wait for room already")
            waiter = Waiter(adus[0], asyncio.get_running_loop().create_future())
            self._lines[own].append(waiter)
            try:
                await asyncio.wait([waiter.woken], timeout=most_s)
            finally:
                if waiter in self._lines[own]:
                    self._lines[own].remove(waiter)
            fit = self._fits(adus)
        return fit
