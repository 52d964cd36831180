"""Real agents (or what is between them) killed at random moments of a stream of bundles, and what came of it.

Clients of the first agent send numbered ADUs all the while; a number counts as acknowledged when that agent has answered.
The ledger of the last one notes each delivery in the transaction that ends it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from itertools import count
from random import Random
from typing import Any, Final, NamedTuple, Protocol

from tumpline.bench.framework.agents import AgentProcess
from tumpline.errors import NotReachableError, TumplineError
from tumpline.node.client import connect
from tumpline.testing import ledger

LEDGER: Final = (sys.executable, "-m", "tumpline.testing.ledger")
SMALL: Final = 100
LARGE: Final = 150_000
LARGE_EVERY: Final = 40
CLIENTS: Final = 4
MOVED_MOST: Final = 60  # deliveries between the stream's return after a kill and the next kill
HANG_S: Final = 60.0
POLL_S: Final = 0.005


class Victim(Protocol):
    """What is killed and comes back."""

    def kill(self) -> None: ...

    def start(self) -> None: ...

    def wait_ready(self) -> object: ...


class Stream:
    """The agents, and what was sent and acknowledged."""

    def __init__(
        self, agents: Mapping[str, AgentProcess], others: Mapping[str, Victim] | None = None, large: int = LARGE
    ) -> None:
        """In the order of the stream; the last one was started with LEDGER. `others` can be killed, too."""
        self.agents = agents
        self.sent: set[int] = set()
        self.acknowledged: set[int] = set()
        self._victims: dict[str, Victim] = {**agents, **(others or {})}
        self._first, *_, self._last = agents.values()
        self._numbers = count()
        self._large = large
        self._going_on = True

    async def run(self, victims: Sequence[str], chance: Random) -> None:
        """Send, kill the victims one after the other, and wait until everything has come to rest."""
        async with asyncio.TaskGroup() as tasks:
            for index in range(CLIENTS):
                tasks.create_task(self._send(), name=f"client {index}")
            for victim in victims:
                await self._moved(chance.randrange(1, MOVED_MOST))
                killed = self._victims[victim]
                killed.kill()
                killed.start()
                await asyncio.to_thread(killed.wait_ready)
            await self._moved(MOVED_MOST)
            self._going_on = False
        for name in self.agents:
            await self._until(partial(self._is_empty, name), f"{name} kept bundles")

    async def _send(self) -> None:
        """One client, which tries again with another number when the agent was killed under it."""
        while self._going_on:
            async with connect(self._first.socket) as client:
                while self._going_on:
                    number = next(self._numbers)
                    self.sent.add(number)
                    octets = SMALL if number % LARGE_EVERY else self._large
                    try:
                        await client.send_adu(f"dtn://{self._last.name}/ledger", ledger.payload(number, octets))
                    except NotReachableError:
                        await asyncio.sleep(POLL_S)
                        break
                    self.acknowledged.add(number)

    async def _moved(self, deliveries: int) -> None:
        """Until so many more have come through to rover."""
        target = await self._noted() + deliveries

        async def enough() -> bool:
            return await self._noted() >= target

        await self._until(enough, "the stream came to a halt")

    async def _noted(self) -> int:
        async with connect(self._last.socket) as client:
            return int((await client.status())["services"][ledger.NAME]["noted"])

    async def _is_empty(self, name: str) -> bool:
        async with connect(self.agents[name].socket) as client:
            return int((await client.status())["store"]["bundles"]) == 0

    async def _until(self, is_so: Callable[[], Coroutine[Any, Any, bool]], otherwise: str) -> None:
        end = time.monotonic() + HANG_S
        while not await is_so():
            if time.monotonic() > end:
                raise TumplineError("\n".join((otherwise, *(agent.log_tail() for agent in self.agents.values()))))
            await asyncio.sleep(POLL_S)

    async def end(self) -> Verdict:
        """Stop the agents; what is wrong with what was delivered."""
        for agent in self.agents.values():
            agent.stop()
        noted = await ledger.read_ledger(self._last.directory / "state")
        print(f"{len(self.sent)} sent, {len(self.acknowledged)} acknowledged, {len(noted)} delivered")
        return judge(self.sent, self.acknowledged, noted)


class Verdict(NamedTuple):
    """What does not add up."""

    lost: set[int]  # acknowledged and not delivered
    twice: set[int]
    strange: set[str]  # delivered and never sent, or not as it was sent


def judge(sent: set[int], acknowledged: set[int], noted: dict[str, int]) -> Verdict:
    """`noted`: how often each number was delivered."""
    delivered = {int(key): times for key, times in noted.items() if key.isdecimal()}
    return Verdict(
        acknowledged - delivered.keys(),
        {number for number, times in delivered.items() if times > 1},
        {key for key in noted if not key.isdecimal() or int(key) not in sent},
    )


NOTHING: Final = Verdict(set(), set(), set())


def new_seed() -> int:
    """Another one each time."""
    return time.time_ns() % 1_000_000
