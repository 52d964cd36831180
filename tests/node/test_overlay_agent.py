"""The overlay's agent over a real broker: who may join, what strangers say, what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import pytest

from tumpline.drivers.amqp import AmqpChannel, AmqpConnection
from tumpline.drivers.overlay import NameTakenError
from tumpline.errors import TumplineError
from tumpline.testing.memory_agents import MemoryAgent, meet, memory_agent
from tumpline.testing.older_members import OlderMember, Plan
from tumpline.testing.rabbitmq import RabbitMq, Vhost

EXCHANGE = "amq.topic"


@asynccontextmanager
async def stranger(vhost: Vhost) -> AsyncIterator[AmqpChannel]:
    """Somebody who may publish."""
    connection = await AmqpConnection.open(vhost.url, name="stranger")
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def test_a_second_agent_of_one_name_is_refused_until_the_first_has_left(rabbitmq: Vhost) -> None:
    async with memory_agent(rabbitmq.uri, "alice", 1):
        with pytest.raises(NameTakenError, match="an agent named alice is in this session already; stop it, or join"):
            await MemoryAgent(rabbitmq.uri, "alice", 2).start()
    async with memory_agent(rabbitmq.uri, "alice", 2):
        assert rabbitmq.queues() == {"tumpline.member.alice"}
    assert rabbitmq.queues() == set()


@pytest.mark.parametrize("generation", [0, 1])
async def test_an_older_agent_holds_its_name_too(rabbitmq: Vhost, generation: int) -> None:
    with ExitStack() as held:
        older = OlderMember(rabbitmq.uri, Plan("agent_1", 1, generation))
        await asyncio.to_thread(held.enter_context, older)
        with pytest.raises(NameTakenError, match="an older agent named agent_1 is in this session already"):
            await MemoryAgent(rabbitmq.uri, "agent_1", 1).start()


@pytest.mark.parametrize(
    ("wrong", "said", "exit_code"),
    [
        ({"password": "wrong"}, "refused the login of user tester: look at user and password", 5),
        ({"virtual_host": "nowhere"}, "no virtual host 'nowhere'", 5),
    ],
)
async def test_what_trying_again_cannot_mend_is_said_at_once(
    rabbitmq: Vhost, wrong: dict[str, Any], said: str, exit_code: int
) -> None:
    url = rabbitmq.url._replace(**wrong)
    agent = MemoryAgent(f"amqp://{url.user}:{url.password}@{url.host}:{url.port}/{url.virtual_host}", "alice", 1)
    with pytest.raises(TumplineError, match=said) as raised:
        await agent.start()
    assert raised.value.exit_code == exit_code
    assert "wrong" not in str(raised.value)
    await agent.stop()


async def test_an_exchange_that_is_not_there_is_not_made(rabbitmq: Vhost) -> None:
    agent = MemoryAgent(rabbitmq.uri, "alice", 1, exchange="mistyped")
    with pytest.raises(TumplineError, match="the broker has no exchange mistyped there"):
        await agent.start()
    await agent.stop()


async def test_malformed_bodies_are_counted_and_dropped(rabbitmq: Vhost) -> None:
    bodies = (b"", b"\xff" * 100, b"{}", b'{"data": [300]}', b'{"data": "x"}', b"[" * 10_000, b'{"data": []}', b"null")
    async with memory_agent(rabbitmq.uri, "alice", 1) as alice, memory_agent(rabbitmq.uri, "bob", 2) as bob:
        await meet(alice, bob)
        keys = [*alice.agent.attachment.member.bindings(), "tumpline.packet.alice.bob", "tumpline.flood.bob"]
        async with stranger(rabbitmq) as channel:
            for key in keys:
                for body in bodies:
                    await channel.publish_confirmed(EXCHANGE, key.replace("*", "bob").replace("#", "ip"), body)
        await alice.ping("bbbb::2", 1)
        counters = alice.agent.snapshot()["member"]["counters"]
        assert counters["malformed"] >= len(bodies)
        assert alice.foreign == bob.foreign == 0
        assert alice.agent.failure is bob.agent.failure is None


async def test_what_is_lost_with_a_connection_comes_back_by_itself(rabbitmq: Vhost) -> None:
    async with memory_agent(rabbitmq.uri, "alice", 1) as alice, memory_agent(rabbitmq.uri, "bob", 2) as bob:
        await meet(alice, bob)
        await alice.ping("bbbb::2", 1)
        rabbitmq.close_connections()
        await alice.until(lambda: len(alice.told("SessionJoined")) == 2)
        await bob.until(lambda: len(bob.told("SessionJoined")) == 2)
        await meet(alice, bob)
        await alice.ping("bbbb::2", 2)
        lost = alice.told("SessionLost")
        assert [each.reason for each in lost] == ["CONNECTION_FORCED - closed by a test"]


async def test_a_broker_that_is_killed_under_traffic_and_started_again(own_rabbitmq: RabbitMq) -> None:
    url = own_rabbitmq.uri(own_rabbitmq.new_vhost())
    async with memory_agent(url, "alice", 1) as alice, memory_agent(url, "bob", 2) as bob:
        await meet(alice, bob)
        sequence = 0

        async def traffic() -> None:
            nonlocal sequence
            while True:
                sequence += 1
                alice.ask("bbbb::2", sequence)
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(traffic(), name="traffic")
            await alice.until(lambda: alice.replies[sequence - 1] > 0)
            own_rabbitmq.kill()
            await alice.until(lambda: alice.told("SessionLost") != [])
            own_rabbitmq.launch()
            await asyncio.to_thread(own_rabbitmq.wait_ready)
            before = sequence
            await alice.until(lambda: max(alice.replies) > before)
            task.cancel()
        assert {count for count in alice.replies.values() if count} == {1}


async def test_who_waits_for_a_coordinator_opens_its_port_when_told(rabbitmq: Vhost) -> None:
    async with AsyncExitStack() as held:
        alice = await held.enter_async_context(memory_agent(rabbitmq.uri, "alice", 1, force_bootstrap=False))
        assert alice.agent.attachment.ports == []
        start: dict[str, Any] = {"name": "alice", "ipv6_prefix": "bbbb", "ipv6_host": ":1"}
        with ExitStack() as olders:
            older = OlderMember(rabbitmq.uri, Plan("coordinator", 7))
            await asyncio.to_thread(olders.enter_context, older)
            await asyncio.to_thread(older.publish, "toAgent.alice.ip.tun.start", start)
            await alice.until(lambda: alice.told("PortUp") != [])
        assert alice.port.describe()["addresses"] == ["bbbb::1/64", "fe80::1/64"]
