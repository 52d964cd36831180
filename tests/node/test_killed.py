"""Real agents are killed at random moments of a stream: nothing acknowledged is lost, nothing is delivered twice.

ground -> relay -> rover, all with a durable store. Clients of ground send numbered ADUs all the while; a number counts as
acknowledged when ground has answered. Rover's ledger notes each delivery in the transaction that ends it.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from tumpline.bench.framework.agents import PROGRAM, AgentProcess, Agents
from tumpline.errors import NotReachableError, TumplineError
from tumpline.node.client import connect
from tumpline.testing import ledger

NAMES = ("ground", "relay", "rover")
LEDGER = (sys.executable, "-m", "tumpline.testing.ledger")
FAULTY_LEDGER = (sys.executable, "-m", "tumpline.testing.durability_faults", "commit", "tumpline.testing.ledger")
TO = "dtn://rover/ledger"
SMALL, LARGE, LARGE_EVERY = 100, 150_000, 40
CLIENTS = 4
MOVED_MOST = 60  # deliveries between the stream's return after a kill and the next kill
HANG_S = 60.0
POLL_S = 0.005
CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"
[store]
kind = "sqlite"
[[links]]
kind = "tcpcl4"
retry_s_first = 0.05
retry_s_max = 0.2
{link}
"""
ROUTE = """
[[routes]]
to = "dtn://rover/**"
via = "dtn://relay/"
"""


class Stream:
    """The three agents, and what was sent and acknowledged."""

    def __init__(self, agents: Agents, ledger_program: Sequence[str] = LEDGER, large: int = LARGE) -> None:
        ports = free_ports(2)
        links = {
            "ground": f'connect = ["127.0.0.1:{ports[0]}"]\n{ROUTE}',
            "relay": f'listen = "127.0.0.1:{ports[0]}"\nconnect = ["127.0.0.1:{ports[1]}"]',
            "rover": f'listen = "127.0.0.1:{ports[1]}"\n[services.ledger]',
        }
        programs = {"ground": PROGRAM, "relay": PROGRAM, "rover": ledger_program}
        self.agents: dict[str, AgentProcess] = {}
        for name in reversed(NAMES):
            config = CONFIG.format(name=name, link=links[name])
            self.agents[name] = agents.start(name, config, program=programs[name])
        self.sent: set[int] = set()
        self.acknowledged: set[int] = set()
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
                agent = self.agents[victim]
                agent.kill()
                agent.start()
                await asyncio.to_thread(agent.wait_ready)
            await self._moved(MOVED_MOST)
            self._going_on = False
        for name in NAMES:
            await self._until(partial(self._is_empty, name), f"{name} kept bundles")

    async def _send(self) -> None:
        """One client, which tries again with another number when the agent was killed under it."""
        while self._going_on:
            async with connect(self.agents["ground"].socket) as client:
                while self._going_on:
                    number = next(self._numbers)
                    self.sent.add(number)
                    octets = SMALL if number % LARGE_EVERY else self._large
                    try:
                        await client.send_adu(TO, ledger.payload(number, octets))
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
        async with connect(self.agents["rover"].socket) as client:
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


class Verdict(NamedTuple):
    """What does not add up."""

    lost: set[int]  # acknowledged and not delivered
    twice: set[int]
    strange: set[str]  # delivered and never sent, or not as it was sent


def judge(sent: set[int], acknowledged: set[int], noted: dict[str, int]) -> Verdict:
    delivered = {int(key): times for key, times in noted.items() if key.isdecimal()}
    return Verdict(
        acknowledged - delivered.keys(),
        {number for number, times in delivered.items() if times > 1},
        {key for key in noted if not key.isdecimal() or int(key) not in sent},
    )


def free_ports(wanted: int) -> list[int]:
    """Ports that an agent can come back to after it was killed."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(wanted)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


async def killed(directory: Path, kills: int, seed: int, victims: list[str] | None = None, **options: Any) -> Verdict:
    """A stream with so many kills. Returns: what is wrong with what came of it."""
    chance = Random(seed)
    victims = chance.choices(NAMES, k=kills) if victims is None else victims * kills
    print(f"seed {seed}: {' '.join(victims)}")  # shown when the test fails
    with Agents(directory) as agents:
        stream = Stream(agents, **options)
        await stream.run(victims, chance)
        for agent in stream.agents.values():
            agent.stop()
        noted = await ledger.read_ledger(stream.agents["rover"].directory / "state")
    print(f"{len(stream.sent)} sent, {len(stream.acknowledged)} acknowledged, {len(noted)} delivered")
    assert len(stream.acknowledged) > kills, "there was no stream"
    return judge(stream.sent, stream.acknowledged, noted)


def new_seed() -> int:
    return time.time_ns() % 1_000_000


NOTHING = Verdict(set(), set(), set())


@pytest.mark.slow
async def test_killed_ten_times(tmp_path: Path) -> None:
    assert await killed(tmp_path, 10, new_seed()) == NOTHING


@pytest.mark.soak
async def test_killed_fifty_times(tmp_path: Path) -> None:
    assert await killed(tmp_path, 50, new_seed()) == NOTHING


@pytest.mark.slow
async def test_an_agent_that_acknowledges_before_it_commits_is_found(tmp_path: Path) -> None:
    # Without files: they are gone at once, and the late commit that forgets their bundles may never come.
    verdict = await killed(tmp_path, 2, 1, ["rover"], ledger_program=FAULTY_LEDGER, large=SMALL)
    assert verdict.lost
    assert not verdict.strange


def test_the_judge() -> None:
    assert judge({1, 2, 3}, {1, 2}, {"1": 1, "2": 1, "3": 1}) == NOTHING
    assert judge({1, 2, 3}, {1, 2}, {"1": 2, "9": 1, ledger.DAMAGED: 1}) == Verdict({2}, {1}, {"9", ledger.DAMAGED})
