"""The embedded broker on the loopback, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tumpline.drivers.amqp_broker import BrokerServer
from tumpline.drivers.dial import Address
from tumpline.machines.amqp_broker import BrokerConfig


@asynccontextmanager
async def embedded_broker(port: int = 0) -> AsyncIterator[BrokerServer]:
    """0: any port."""
    server = BrokerServer(BrokerConfig())
    await server.start(Address("127.0.0.1", port))
    try:
        yield server
    finally:
        await server.stop()
