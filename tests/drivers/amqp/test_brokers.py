"""The conformance suite of brokers, over the embedded one and over RabbitMQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tumpline.drivers.amqp import AmqpUrl
from tumpline.drivers.amqp_broker import BrokerServer
from tumpline.drivers.dial import Address
from tumpline.machines.amqp_broker import BrokerConfig
from tumpline.testing.conformance.brokers import CHECKS, Check, Ground, check_blocked
from tumpline.testing.rabbitmq import RabbitMq, Vhost

HANG_S = 15.0


@pytest.fixture
async def embedded() -> AsyncIterator[Ground]:
    server = BrokerServer(BrokerConfig())
    await server.start(Address("127.0.0.1", 0))

    def set_blocked(on: bool) -> None:
        server.machine.memory.octets_most = 0 if on else 1 << 20
        server.turn()

    ground = Ground(AmqpUrl("127.0.0.1", server.port), set_blocked)
    yield ground
    await ground.close()
    await server.stop()
    assert not server.peers


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_embedded(check: Check, embedded: Ground) -> None:
    async with asyncio.timeout(HANG_S):
        await check(embedded)


@pytest.mark.parametrize(
    "check", [each for each in CHECKS if each is not check_blocked], ids=lambda check: check.__name__
)
async def test_rabbitmq(check: Check, rabbitmq: Vhost) -> None:
    await run(check, rabbitmq.broker, rabbitmq.url)


async def test_rabbitmq_blocks(own_rabbitmq: RabbitMq) -> None:
    """All publishers of a broker wait: others' tests among them, if it were shared."""
    await run(check_blocked, own_rabbitmq, own_rabbitmq.url())


async def run(check: Check, broker: RabbitMq, url: AmqpUrl) -> None:
    ground = Ground(url, lambda on: broker.block() if on else broker.unblock())
    try:
        async with asyncio.timeout(HANG_S):
            await check(ground)
    finally:
        await ground.close()
