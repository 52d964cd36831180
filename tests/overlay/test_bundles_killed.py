"""Bundles between two agents over RabbitMQ, while the broker and the agents are killed: nothing is lost, nothing comes twice."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tumpline.bench.framework.agents import PROGRAM, AgentProcess, Agents
from tumpline.testing.killed import LEDGER, NOTHING, Stream, Verdict, new_seed
from tumpline.testing.rabbitmq import RabbitMq

CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"
[store]
kind = "sqlite"
[[links]]
kind = "amqp"
member = "{name}"
url = "{url}"
{more}
"""


class Broker:
    """A RabbitMQ as a victim: others go on while it starts."""

    def __init__(self, rabbitmq: RabbitMq) -> None:
        self.kill = rabbitmq.kill
        self.start = rabbitmq.launch
        self.wait_ready = rabbitmq.wait_ready


def start_both(agents: Agents, broker: RabbitMq) -> dict[str, AgentProcess]:
    url = broker.uri(broker.new_vhost())
    rover = agents.start("rover", CONFIG.format(name="rover", url=url, more="[services.ledger]"), program=LEDGER)
    ground = agents.start("ground", CONFIG.format(name="ground", url=url, more=""), program=PROGRAM)
    return {"ground": ground, "rover": rover}


async def killed(directory: Path, broker: RabbitMq, victims: list[str], seed: int) -> Verdict:
    print(f"seed {seed}: {' '.join(victims)}")  # shown when the test fails
    with Agents(directory) as agents:
        stream = Stream(start_both(agents, broker), {"broker": Broker(broker)})
        await stream.run(victims, Random(seed))
        assert len(stream.acknowledged) > len(victims), "there was no stream"
        return await stream.end()


@pytest.mark.slow
async def test_killed_one_after_the_other(tmp_path: Path, own_rabbitmq: RabbitMq) -> None:
    assert await killed(tmp_path, own_rabbitmq, ["broker", "rover", "broker"], new_seed()) == NOTHING


@pytest.mark.soak
async def test_killed_thirty_times(tmp_path: Path, own_rabbitmq: RabbitMq) -> None:
    seed = new_seed()
    victims = Random(seed).choices(["broker", "ground", "rover"], k=30)
    assert await killed(tmp_path, own_rabbitmq, victims, seed) == NOTHING
