"""An attachment at its edges: back-pressure, queues that somebody deletes, bindings that follow the routers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tumpline.drivers.amqp import AmqpChannel, AmqpConnection
from tumpline.testing.memory_agents import MemoryAgent, meet, memory_agent
from tumpline.testing.rabbitmq import RabbitMq, Vhost


@asynccontextmanager
async def operator(vhost: Vhost) -> AsyncIterator[AmqpChannel]:
    """Somebody who may do what they like in the session."""
    connection = await AmqpConnection.open(vhost.url, name="operator")
    try:
        yield await connection.channel()
    finally:
        await connection.close()


def paused(agent: MemoryAgent) -> bool:
    return bool(agent.port.describe()["is_paused"])


async def test_ports_rest_while_the_broker_takes_nothing(own_rabbitmq: RabbitMq) -> None:
    url = own_rabbitmq.uri(own_rabbitmq.new_vhost())
    async with memory_agent(url, "alice", 1) as alice, memory_agent(url, "bob", 2) as bob:
        await meet(alice, bob)
        own_rabbitmq.block()
        # RabbitMQ blocks whoever publishes next, and says so (connection.blocked).
        alice.ask("bbbb::2", 1)
        await alice.until(lambda: paused(alice))
        assert alice.agent.attachment.counts.pauses == 1
        for sequence in range(2, 1000):  # the port's own queue is short
            alice.ask("bbbb::2", sequence)
        assert alice.port.describe()["dropped"] > 500
        own_rabbitmq.unblock()
        await alice.until(lambda: not paused(alice))
        await alice.ping("bbbb::2", 1001)
        assert max(alice.replies.values()) == 1


async def test_who_is_blocked_and_leaves_does_not_wait_for_it(own_rabbitmq: RabbitMq) -> None:
    url = own_rabbitmq.uri(own_rabbitmq.new_vhost())
    async with memory_agent(url, "alice", 1) as alice:
        own_rabbitmq.block()
        alice.ask("bbbb::2", 1)
        await alice.until(lambda: paused(alice))


async def test_a_queue_that_an_operator_deletes_is_made_again(rabbitmq: Vhost) -> None:
    async with memory_agent(rabbitmq.uri, "alice", 1) as alice, memory_agent(rabbitmq.uri, "bob", 2) as bob:
        await meet(alice, bob)
        rabbitmq.delete_queue("tumpline.member.alice")
        await alice.until(lambda: len(alice.told("SessionJoined")) == 2)
        assert [lost.reason for lost in alice.told("SessionLost")] == ["somebody deleted our queue"]
        await meet(alice, bob)
        await alice.ping("bbbb::2", 1)


@pytest.mark.parametrize("left", ["consumer: alice.tun?rkey=toAgent.alice.ip.tun.packet.raw", "data.tun@alice"])
async def test_a_queue_that_nobody_reads_holds_no_name(rabbitmq: Vhost, left: str) -> None:
    """What an older agent left behind: only who reads is there."""
    async with operator(rabbitmq) as channel:
        await channel.declare_queue(left)
        async with memory_agent(rabbitmq.uri, "alice", 1) as alice:
            assert alice.agent.attachment.is_joined
