"""Agents that join a session and leave it again and again, in order or without a word, while all ping each other.

Every now and then nothing changes for a moment: then all must know exactly those who are there, reach them, and nobody may
have heard anything twice. It runs in real time, against a real broker.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from tumpline.testing.memory_agents import MemoryAgent, meet

STEPS_BETWEEN_LOOKS: Final = 5
AT_ONCE_MOST: Final = 5  # that join or leave in one step
SEQUENCES: Final = range(1, 1 << 16)  # RFC 792: two octets; a look forgets the answers long before they come again
INTERVAL_S: Final = 2  # of announcements: who crashed is forgotten after three; a busy machine is no crash


@dataclass
class Seen:
    """What a run was made of; a run in which nothing happened shows nothing."""

    joins: int = 0
    leaves: int = 0
    crashes: int = 0
    pings: int = 0
    looks: int = 0


class Churn:
    """`run`, then `end`."""

    def __init__(self, url: str, agents_most: int, seed: int) -> None:
        self.seen = Seen()
        self._url = url
        self._most = agents_most
        self._chance = random.Random(seed)
        self._there: dict[int, MemoryAgent] = {}
        self._sequence = cycle(SEQUENCES)

    async def run(self, for_s: float) -> None:
        """Raises: AssertionError, TimeoutError: what must hold does not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + for_s
        while loop.time() < deadline or not self.seen.looks:
            for _ in range(STEPS_BETWEEN_LOOKS):
                await self._step()
            await self._look()

    async def end(self) -> None:
        """All leave."""
        await asyncio.gather(*(agent.stop() for agent in self._there.values()))
        self._there.clear()

    async def _step(self) -> None:
        """Some join, some leave, at the same time; those who stay ping each other meanwhile."""
        chance = self._chance
        absent = [number for number in range(1, self._most + 1) if number not in self._there]
        joining = chance.sample(absent, min(len(absent), chance.randint(1, AT_ONCE_MOST)))
        leaving = chance.sample(sorted(self._there), max(0, min(len(self._there) - 2, chance.randint(0, AT_ONCE_MOST))))
        staying = [agent for number, agent in self._there.items() if number not in leaving]
        await asyncio.gather(*map(self._join, joining), *map(self._leave, leaving), self._traffic(staying))

    async def _join(self, number: int) -> None:
        agent = MemoryAgent(self._url, f"agent-{number}", number, interval_s=INTERVAL_S)
        await agent.start()
        self._there[number] = agent
        self.seen.joins += 1

    async def _leave(self, number: int) -> None:
        agent = self._there.pop(number)
        if self._chance.random() < 0.3:
            self.seen.crashes += 1
            await agent.crash()
        else:
            self.seen.leaves += 1
            await agent.stop()

    async def _traffic(self, staying: Sequence[MemoryAgent]) -> None:
        """Nobody waits for answers: who is asked may not know the asker yet."""
        for agent in staying:
            other = self._chance.choice(staying)
            if other is not agent:
                agent.ask(str(other.addresses[self._chance.randrange(2)]), next(self._sequence))
                self.seen.pings += 1

    async def _look(self) -> None:
        """Nothing changes: what must hold then?"""
        there = list(self._there.values())
        names = {agent.name for agent in there}
        await meet(*there)
        for agent in there:
            await agent.until(lambda: set(agent.members) == names - {agent.name})  # noqa: B023
        # Whose owner was not known yet was sent to all. Now all are known.
        strays = sum(agent.foreign for agent in there)
        await asyncio.gather(*(self._reach(agent, there) for agent in there))
        assert sum(agent.foreign for agent in there) == strays, "packets came to others than those they are for"
        for agent in there:
            twice = [sequence for sequence, replies in agent.replies.items() if replies > 1]
            assert not twice, f"{agent.name} has {len(twice)} answers twice"
            agent.forget()
        self.seen.looks += 1

    async def _reach(self, agent: MemoryAgent, there: Sequence[MemoryAgent]) -> None:
        for other in there:
            if other is not agent:
                await self._ping(agent, other)

    async def _ping(self, agent: MemoryAgent, other: MemoryAgent) -> None:
        address = str(other.addresses[self._chance.randrange(2)])
        self.seen.pings += 1
        try:
            await agent.ping(address, next(self._sequence))
        except TimeoutError as error:
            ends = f"{_about(agent, other)}\n{_about(other, agent)}"
            raise AssertionError(f"{agent.name} does not reach {other.name} at {address}:\n{ends}") from error


def _about(agent: MemoryAgent, other: MemoryAgent) -> str:
    """What an agent knows of another, and has been told since the last look."""
    told = "\n  ".join(
        f"{at:.3f} {event}"[:300] for at, event in agent.events if getattr(event, "name", "") == other.name
    )
    counters = agent.agent.snapshot()["member"]["counters"]
    return f"{agent.name}: {counters}\n  knows {agent.members.get(other.name)}\n  {told}"
