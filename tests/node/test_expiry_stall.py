"""Very many bundles expire at once, and others are forwarded meanwhile as if nothing were."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.bench.framework.agents import AgentProcess, Agents
from tumpline.bench.framework.chain import address_of
from tumpline.drivers.stores import memory
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu
from tumpline.machines.node import NodeConfig, NodeMachine
from tumpline.node.client import SyncClient, connect_sync
from tumpline.node.runtime import Runtime, dtn_now_ms
from tumpline.wire.eid import Eid

HANG_S = 120.0
COUNT = 100_000
LIFETIME_S = 25.0
LIFETIME_MS = 3_600_000
MOST_S = 0.05  # between two bundles of a steady stream


class Watcher:
    """It is told, and forgets."""

    def notice(self, name: str, fields: dict[str, object]) -> None:
        """Nobody reads this."""


async def longest_turn_s(count: int) -> float:
    """Processor time of the longest turn of an agent's loop while `count` bundles expire in a memory store."""
    machine = NodeMachine(NodeConfig(Eid.parse("dtn://hub/")), lambda: 0.5)
    runtime = Runtime(machine, memory.SPEC.open(memory.SPEC.config(), Path()), Watcher(), lambda *_: None)
    runtime.start()
    nowhere = Eid.parse("dtn://nowhere/x")
    for first in range(0, count, 256):
        adus = [Adu(nowhere, Octets(bytes(100)), lifetime_ms=LIFETIME_MS) for _ in range(first, first + 256)]
        machine.originate(adus, runtime.now())
        runtime.turn()
    assert machine.snapshot(0)["store"]["bundles"] >= count
    machine.set_clock(dtn_now_ms() + 2 * LIFETIME_MS, runtime.now())  # all are overdue in the same moment
    begin = time.thread_time()
    runtime.turn()
    longest = time.thread_time() - begin
    while machine.snapshot(0)["store"]["bundles"]:
        begin = time.thread_time()
        await asyncio.sleep(0.001)  # one or two rounds of the loop
        longest = max(longest, time.thread_time() - begin)
    await runtime.stop()
    return longest


def test_no_turn_of_the_loop_is_long() -> None:
    assert asyncio.run(longest_turn_s(8192)) < MOST_S


CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"

[store]
kind = "{store}"

[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"
{connect}
"""


@pytest.fixture(params=["memory", "sqlite"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[AgentProcess, AgentProcess]]:
    with Agents(tmp_path) as agents:
        rover = agents.start("rover", CONFIG.format(name="rover", store="memory", connect=""))
        connect = f'connect = ["{address_of(rover)}"]'
        yield agents.start("ground", CONFIG.format(name="ground", store=request.param, connect=connect)), rover


def held(client: SyncClient) -> int:
    return int(client.get("/v1/status")["store"]["bundles"])


def slowest_ping_ms(client: SyncClient, count: int) -> float:
    """Of pings that leave at a steady pace, whatever became of those before."""
    asked = {"to": "dtn://rover/echo", "count": count, "size": 100, "interval_s": 0.01, "timeout_s": 10}
    times: list[float] = [event["rtt_ms"] for event in client.stream("/v1/ping", asked) if event["event"] == "reply"]
    assert len(times) == count
    return max(times)


@pytest.mark.soak
def test_100_000_expire_at_once_and_pings_go_on(pair: tuple[AgentProcess, AgentProcess]) -> None:
    """The agent is stopped until all are overdue: when it goes on, all are due in the same moment."""
    ground, _ = pair
    with connect_sync(ground.socket, timeout_s=HANG_S) as client:
        before_ms = slowest_ping_ms(client, 300)
        begin = time.monotonic()
        asked = {"to": "dtn://nowhere/x", "count": COUNT, "size": 100, "lifetime_s": LIFETIME_S}
        for _ in client.stream("/v1/source", asked):
            pass
        filled_s = time.monotonic() - begin
        assert held(client) >= COUNT, "they expired before all were there"
        os.kill(ground.pid, signal.SIGSTOP)
        threading.Event().wait(LIFETIME_S + 0.5)
        os.kill(ground.pid, signal.SIGCONT)
        slowest_ms = slowest_ping_ms(client, 100)
        left = held(client)
        while held(client):
            slowest_ms = max(slowest_ms, slowest_ping_ms(client, 100))
    print(f"filled in {filled_s:.1f} s; slowest ping {before_ms:.1f} ms before, {slowest_ms:.1f} ms while they expired")
    assert left < COUNT
    assert slowest_ms < MOST_S * 1000
