"""The broker for newcomers on a port. What clients see is in the conformance suite: tests/drivers/amqp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest

from tumpline.drivers.amqp_broker import BrokerServer
from tumpline.drivers.dial import Address
from tumpline.errors import TumplineError
from tumpline.machines.amqp_broker import BrokerConfig


@pytest.fixture
async def server() -> AsyncIterator[BrokerServer]:
    server = BrokerServer(BrokerConfig())
    await server.start(Address("127.0.0.1", 0))
    yield server
    await server.stop()
    assert server.machine.memory.octets == 0
    assert not server.peers


async def test_a_client_that_goes_without_a_word_leaves_nothing(server: BrokerServer) -> None:
    connection = await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{server.port}/")
    channel = await connection.channel()
    await channel.declare_queue("mine", exclusive=True)
    (peer,) = server.peers.values()
    assert peer._transport is not None
    peer._transport.abort()
    while server.peers:
        await asyncio.sleep(0.01)
    assert server.machine.virtual_host("/").queues == {}
    await connection.close()


async def test_a_port_that_another_has(server: BrokerServer) -> None:
    with pytest.raises(TumplineError, match="name another port"):
        await BrokerServer(BrokerConfig()).start(Address("127.0.0.1", server.port))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_everywhere_is_both_versions_on_one_port(host: str) -> None:
    broker = BrokerServer(BrokerConfig())
    await broker.start(Address("::", 0))
    try:
        _, writer = await asyncio.open_connection(host, broker.port)
        writer.close()
        await writer.wait_closed()
    finally:
        await broker.stop()
