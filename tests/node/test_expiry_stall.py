"""Very many bundles expire at once, and others are forwarded meanwhile as if nothing were."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from tumpline.bench.framework.agents import AgentProcess, Agents
from tumpline.bench.framework.chain import address_of
from tumpline.drivers.stores import memory
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, Octets
from tumpline.machines.effects import Adu
from tumpline.machines.node import NodeConfig, NodeMachine
from tumpline.node.client import SyncClient, connect_sync
from tumpline.node.runtime import Runtime, dtn_now_ms
from tumpline.wire.eid import Eid

HANG_S = 120.0
LIFETIME_MS = 3_600_000
MOST_S = 0.05  # between two bundles of a steady stream
PROBE_PAUSE_S = 0.02


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


class Case(NamedTuple):
    """What expires, and where it is kept."""

    store: str
    bundles: int
    size: int  # of a payload
    lifetime_s: float  # long enough to store them all, on a slow disk too


CASES = (
    Case("memory", 100_000, 100, 25.0),
    Case("sqlite", 100_000, 100, 25.0),
    Case("sqlite", 100_000, 2_000, 40.0),
    Case("sqlite", 10_000, 90_000, 60.0),
    Case("sqlite", 5_000, FILE_PAYLOAD_OCTETS, 90.0),
)


@pytest.fixture(params=CASES, ids=lambda case: f"{case.store}-{case.bundles}x{case.size}")
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def pair(case: Case, tmp_path: Path) -> Iterator[tuple[AgentProcess, AgentProcess]]:
    with Agents(tmp_path) as agents:
        rover = agents.start("rover", CONFIG.format(name="rover", store="memory", connect=""))
        connect = f'connect = ["{address_of(rover)}"]'
        yield agents.start("ground", CONFIG.format(name="ground", store=case.store, connect=connect)), rover


class DiskProbe:
    """How long the disk itself takes for a sync, while the block lasts."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "probe"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.slowest_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            while not self._ended.wait(PROBE_PAUSE_S):
                os.pwrite(file.fileno(), bytes(4096), 0)
                begin = time.monotonic()
                os.fdatasync(file.fileno())
                self.slowest_s = max(self.slowest_s, time.monotonic() - begin)


def held(client: SyncClient) -> int:
    return int(client.get("/v1/status")["store"]["bundles"])


def slowest_ping_ms(client: SyncClient, count: int) -> float:
    """Of pings that leave at a steady pace, whatever became of those before."""
    asked = {"to": "dtn://rover/echo", "count": count, "size": 100, "interval_s": 0.01, "timeout_s": 10}
    times: list[float] = [event["rtt_ms"] for event in client.stream("/v1/ping", asked) if event["event"] == "reply"]
    assert len(times) == count
    return max(times)


@pytest.mark.soak
def test_very_many_expire_at_once_and_pings_go_on(
    pair: tuple[AgentProcess, AgentProcess], case: Case, tmp_path: Path
) -> None:
    """The agent is stopped until all are overdue: when it goes on, all are due in the same moment."""
    ground, _ = pair
    with connect_sync(ground.socket, timeout_s=HANG_S) as client:
        before_ms = slowest_ping_ms(client, 300)
        begin = time.monotonic()
        asked = {"to": "dtn://nowhere/x", "count": case.bundles, "size": case.size, "lifetime_s": case.lifetime_s}
        for _ in client.stream("/v1/source", asked):
            pass
        filled_s = time.monotonic() - begin
        assert held(client) >= case.bundles, "they expired before all were there"
        os.kill(ground.pid, signal.SIGSTOP)
        threading.Event().wait(case.lifetime_s + 0.5)
        os.kill(ground.pid, signal.SIGCONT)
        with DiskProbe(tmp_path) as disk:
            slowest_ms = slowest_ping_ms(client, 100)
            left = held(client)
            while held(client):
                slowest_ms = max(slowest_ms, slowest_ping_ms(client, 100))
    print(
        f"filled in {filled_s:.1f} s; slowest ping {before_ms:.1f} ms before, {slowest_ms:.1f} ms while they expired;"
        f" slowest sync of the disk meanwhile {disk.slowest_s * 1000:.1f} ms"
    )
    assert left < case.bundles
    assert slowest_ms < 1000 * MOST_S, f"the disk's own slowest sync took {disk.slowest_s * 1000:.1f} ms"
