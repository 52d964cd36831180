"""Real agents are killed at random moments of a stream: nothing acknowledged is lost, nothing is delivered twice.

ground -> relay -> rover, all with a durable store. Clients of ground send numbered ADUs all the while; a number counts as
acknowledged when ground has answered. Rover's ledger notes each delivery in the transaction that ends it.
"""

import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from tumpline.bench.framework.agents import PROGRAM, AgentProcess, Agents
from tumpline.testing import ledger
from tumpline.testing.killed import LARGE, LEDGER, NOTHING, SMALL, Stream, Verdict, judge, new_seed

NAMES = ("ground", "relay", "rover")
FAULTY_LEDGER = (sys.executable, "-m", "tumpline.testing.durability_faults", "commit", "tumpline.testing.ledger")
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


def start_all(agents: Agents, ledger_program: Sequence[str]) -> dict[str, AgentProcess]:
    """The three, in the order of the stream."""
    ports = free_ports(2)
    links = {
        "ground": f'connect = ["127.0.0.1:{ports[0]}"]\n{ROUTE}',
        "relay": f'listen = "127.0.0.1:{ports[0]}"\nconnect = ["127.0.0.1:{ports[1]}"]',
        "rover": f'listen = "127.0.0.1:{ports[1]}"\n[services.ledger]',
    }
    programs = {"ground": PROGRAM, "relay": PROGRAM, "rover": ledger_program}
    started = {
        name: agents.start(name, CONFIG.format(name=name, link=links[name]), program=programs[name])
        for name in reversed(NAMES)
    }
    return {name: started[name] for name in NAMES}


def free_ports(wanted: int) -> list[int]:
    """Ports that an agent can come back to after it was killed."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(wanted)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


async def killed(
    directory: Path,
    kills: int,
    seed: int,
    victims: list[str] | None = None,
    program: Sequence[str] = LEDGER,
    large: int = LARGE,
) -> Verdict:
    """A stream with so many kills. Returns: what is wrong with what came of it."""
    chance = Random(seed)
    victims = chance.choices(NAMES, k=kills) if victims is None else victims * kills
    print(f"seed {seed}: {' '.join(victims)}")  # shown when the test fails
    with Agents(directory) as agents:
        stream = Stream(start_all(agents, program), large=large)
        await stream.run(victims, chance)
        verdict = await stream.end()
    assert len(stream.acknowledged) > kills, "there was no stream"
    return verdict


@pytest.mark.slow
async def test_killed_ten_times(tmp_path: Path) -> None:
    assert await killed(tmp_path, 10, new_seed()) == NOTHING


@pytest.mark.soak
async def test_killed_fifty_times(tmp_path: Path) -> None:
    assert await killed(tmp_path, 50, new_seed()) == NOTHING


@pytest.mark.slow
async def test_an_agent_that_acknowledges_before_it_commits_is_found(tmp_path: Path) -> None:
    # Without files: they are gone at once, and the late commit that forgets their bundles may never come.
    verdict = await killed(tmp_path, 2, 1, ["rover"], program=FAULTY_LEDGER, large=SMALL)
    assert verdict.lost
    assert not verdict.strange


def test_the_judge() -> None:
    assert judge({1, 2, 3}, {1, 2}, {"1": 1, "2": 1, "3": 1}) == NOTHING
    assert judge({1, 2, 3}, {1, 2}, {"1": 2, "9": 1, ledger.DAMAGED: 1}) == Verdict({2}, {1}, {"9", ledger.DAMAGED})
