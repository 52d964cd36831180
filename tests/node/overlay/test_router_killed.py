"""Routers as processes that share a session, under traffic: one is killed, one is ended in order, one comes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import IO

import pytest
from tests.machines.packet_router.packets import body, ip

from tumpline.drivers.amqp import AmqpChannel, AmqpConnection, Delivery
from tumpline.drivers.overlay.router import RouterAttachment
from tumpline.node.overlay.router import RouterWish, router_settings_of
from tumpline.testing.memory_agents import MemoryAgent, meet
from tumpline.testing.rabbitmq import RabbitMq, Vhost
from tumpline.wire.agent_json import ControlKind, Tun, encode_control
from tumpline.wire.packet_json import Generation, decode_packet_untrusted

SOURCES = [f"s{number}" for number in range(6)]
SHARDS = 8
EXCHANGE = "amq.topic"
PAUSE_S = 0.01  # between two packets of one source
PATIENCE_S = 40.0
SOAK_S = 600.0


class RouterProcess:
    """`tumpline router`, and what it says."""

    def __init__(self, vhost: Vhost, name: str, directory: Path) -> None:
        self.name = name
        command = [sys.executable, "-m", "tumpline", "router", "--url", vhost.uri, "--name", name]
        command += ["--shards", f"{SHARDS}", "--json"]
        environment = os.environ | {"XDG_RUNTIME_DIR": f"{directory}"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def ready(self) -> None:
        """Wait until it passes packets on."""
        stdout: IO[str] | None = self.process.stdout
        assert stdout is not None
        for line in stdout:
            if '"ready"' in line:
                return
        raise AssertionError(f"router {self.name} ended with {self.process.wait()}")

    def end(self, number: signal.Signals) -> int:
        """It is told, or it is killed."""
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(20)


class Traffic:
    """Numbered packets of all sources to one sink, at a steady rate."""

    def __init__(self, channel: AmqpChannel) -> None:
        self.given: Counter[str] = Counter()
        self.arrived: dict[str, list[int]] = defaultdict(list)
        self._channel = channel
        self._came = asyncio.Event()

    async def open(self) -> None:
        """The sink is there, and all are known."""
        queue = (await self._channel.declare_queue(exclusive=True)).name
        await self._channel.bind(queue, EXCHANGE, "toAgent.sink.#")
        await self._channel.consume(queue, self._taken, no_ack=True)
        for host, name in enumerate([*SOURCES, "sink"], 1):
            tun = encode_control(ControlKind.TUN_STARTED, Tun(ipv6_prefix="bbbb", ipv6_host=f"{host}"), Generation.V1)
            self._channel.publish(EXCHANGE, f"fromAgent.{name}.ip.tun.started", tun)

    def give(self) -> None:
        """One more packet of each."""
        sink = len(SOURCES) + 1
        for host, source in enumerate(SOURCES, 1):
            self.given[source] += 1
            packet = ip(f"bbbb::{host}", f"bbbb::{sink}")[:-4] + self.given[source].to_bytes(4)
            self._channel.publish(EXCHANGE, f"fromAgent.{source}.ip.tun.packet.raw", body(packet))

    async def flow(self, seconds: float) -> None:
        """For so long."""
        for _ in range(round(seconds / PAUSE_S)):
            self.give()
            await asyncio.sleep(PAUSE_S)

    async def flows(self) -> None:
        """Until something given after now has arrived from every source. Raises: TimeoutError."""
        wanted = {source: self.given[source] + 1 for source in SOURCES}
        async with asyncio.timeout(PATIENCE_S):
            while any(self.arrived[source][-1:] < [wanted[source]] for source in SOURCES):
                await self.flow(PAUSE_S)

    async def known(self, vhost: Vhost) -> None:
        """Until routers have given each source its share, and have settled who does what."""
        keys = f'[element(3, Binding) || Binding <- rabbit_binding:list(<<"{vhost.name}">>)]'
        async with asyncio.timeout(PATIENCE_S):
            while not all(f"fromAgent.{source}.ip.tun.packet.raw" in vhost.broker.evaluate(keys) for source in SOURCES):
                await asyncio.sleep(0.1)
        await self.flows()
        await self.flow(2.0)

    async def settled(self) -> None:
        """Until the last packet of each has arrived."""
        async with asyncio.timeout(PATIENCE_S):
            while any(self.arrived[source][-1:] != [self.given[source]] for source in SOURCES):
                self._came.clear()
                await self._came.wait()

    async def while_killed(self, victim: RouterProcess, vhost: Vhost, number: signal.Signals = signal.SIGKILL) -> int:
        """Go on while a router is killed, until the broker knows. Returns: how many were under way in that time."""

        def kill() -> None:
            victim.end(number)
            while f"tumpline router {victim.name}" in vhost.broker.connection_names(vhost.name):
                pass  # each question is one to the broker

        behind = sum(max(self.arrived[source], default=0) for source in SOURCES)
        killed = asyncio.get_running_loop().run_in_executor(None, kill)
        while not killed.done():
            await self.flow(PAUSE_S)
        await killed
        return self.given.total() - behind

    def lost(self) -> int:
        """Of all sources; each of them in order and without repetition."""
        for source, numbers in self.arrived.items():
            wrong = [(one, other) for one, other in pairwise(numbers) if one >= other]
            assert not wrong, f"{source}: {wrong} came in this order"
        return self.given.total() - sum(map(len, self.arrived.values()))

    def _taken(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            data = decode_packet_untrusted(delivery.body)[0].data
            self.arrived[SOURCES[data[23] - 1]].append(int.from_bytes(data[-4:]))
        self._came.set()


@asynccontextmanager
async def traffic(vhost: Vhost) -> AsyncIterator[Traffic]:
    connection = await AmqpConnection.open(vhost.url, name="traffic")
    try:
        made = Traffic(await connection.channel())
        await made.open()
        yield made
    finally:
        await connection.close()


@contextmanager
def routers(vhost: Vhost, directory: Path, *names: str) -> Iterator[list[RouterProcess]]:
    """Ready, all of them; killed in the end if nobody ended them."""
    made = [RouterProcess(vhost, name, directory) for name in names]
    try:
        for each in made:
            each.ready()
        yield made
    finally:
        for each in made:
            if each.process.poll() is None:
                each.end(signal.SIGKILL)


@pytest.mark.slow
async def test_a_router_is_killed_under_traffic_and_the_others_go_on(rabbitmq: Vhost, tmp_path: Path) -> None:
    with routers(rabbitmq, tmp_path, "east", "west", "north") as processes:
        async with traffic(rabbitmq) as flowing:
            await flowing.known(rabbitmq)
            await flowing.flow(1.0)
            under_way = 0
            for victim in processes[:2]:
                under_way += await flowing.while_killed(victim, rabbitmq)
                await flowing.flows()
                await flowing.flow(1.0)
            await flowing.settled()
            assert flowing.lost() <= under_way, "more than what was under way until the broker noticed"
        assert await asyncio.to_thread(processes[2].end, signal.SIGTERM) == 0
    assert rabbitmq.queues() == set()


@pytest.mark.slow
async def test_routers_that_come_and_end_in_order_lose_nothing(rabbitmq: Vhost, tmp_path: Path) -> None:
    with routers(rabbitmq, tmp_path, "east") as (east,):
        async with traffic(rabbitmq) as flowing:
            await flowing.known(rabbitmq)
            with routers(rabbitmq, tmp_path, "west") as (west,):
                await flowing.flow(2.0)
                assert await asyncio.to_thread(east.end, signal.SIGTERM) == 0
                await flowing.flow(1.0)
                await flowing.settled()
                assert flowing.lost() == 0
                assert await asyncio.to_thread(west.end, signal.SIGINT) == 0
    assert rabbitmq.queues() == set()


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S + 120)
async def test_ten_minutes_of_routers_that_come_and_go(rabbitmq: Vhost, tmp_path: Path) -> None:
    random = Random(6)
    alive = [RouterProcess(rabbitmq, f"router_{number}", tmp_path) for number in range(3)]
    try:
        for each in alive:
            await asyncio.to_thread(each.ready)
        async with traffic(rabbitmq) as flowing:
            await flowing.known(rabbitmq)
            under_way, turn, ends_at = 0, len(alive), time.monotonic() + SOAK_S
            while time.monotonic() < ends_at:
                victim = alive.pop(random.randrange(len(alive)))
                under_way += await flowing.while_killed(
                    victim, rabbitmq, random.choice((signal.SIGKILL, signal.SIGTERM))
                )
                await flowing.flows()
                alive.append(RouterProcess(rabbitmq, f"router_{turn}", tmp_path))
                await asyncio.to_thread(alive[-1].ready)
                turn += 1
                await flowing.flow(random.uniform(0.5, 3.0))
            await flowing.settled()
            assert flowing.lost() <= under_way
    finally:
        for each in alive:
            await asyncio.to_thread(each.end, signal.SIGTERM)
    assert rabbitmq.queues() == set()


@pytest.mark.slow
async def test_a_broker_that_is_killed_and_started_again_is_found_again(own_rabbitmq: RabbitMq) -> None:
    vhost = Vhost(own_rabbitmq, own_rabbitmq.new_vhost())
    router = RouterAttachment(router_settings_of(RouterWish(url=vhost.uri)), lambda event: None)
    a, b = MemoryAgent(vhost.uri, "a", 1, format="v1"), MemoryAgent(vhost.uri, "b", 2, format="v0")
    try:
        await router.start()
        for agent in (a, b):
            await agent.start()
        await meet(a, b)
        await a.ping("bbbb::2", 1)
        own_rabbitmq.kill()
        own_rabbitmq.start()
        async with asyncio.timeout(PATIENCE_S):
            while router.counts.joins < 2 or not {"a", "b"} <= set(router.machine.directory.agents):
                await asyncio.sleep(0.05)
        await meet(a, b)
        passed = router.machine.passing.counters.passed
        await a.ping("bbbb::2", 2)
        assert router.machine.passing.counters.passed > passed
    finally:
        for each in (a, b, router):
            await each.stop()
    assert vhost.queues() == set()
