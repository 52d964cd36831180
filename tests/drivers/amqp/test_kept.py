"""A connection that is kept up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tumpline.drivers.amqp import AmqpConnection, AmqpError, AmqpUrl, KeptConnection
from tumpline.errors import TumplineError
from tumpline.testing.rabbitmq import Vhost


class Watch:
    """What a kept connection did, in order."""

    def __init__(self, url: AmqpUrl) -> None:
        self.seen: asyncio.Queue[str] = asyncio.Queue()
        self.kept = KeptConnection(
            url, "kept", self.set_up, self.lost, waiting=self.waiting, retry_least_s=0.01, retry_most_s=0.05
        )

    async def set_up(self, connection: AmqpConnection) -> None:
        channel = await connection.channel()
        await channel.declare_queue("mine", exclusive=True)
        self.seen.put_nowait("set up")

    def lost(self, reason: str) -> None:
        self.seen.put_nowait(f"lost: {reason}")

    def waiting(self, reason: str, seconds: float) -> None:
        assert 0 < seconds <= 0.05
        self.seen.put_nowait("waiting")

    async def until(self, what: str) -> str:
        """The next that begins so."""
        while not (seen := await self.seen.get()).startswith(what):
            pass
        return seen

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.kept.run(), name="kept")
            yield
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_it_comes_back(rabbitmq: Vhost) -> None:
    watch = Watch(rabbitmq.url)
    async with watch.running():
        for _ in range(3):
            await watch.until("set up")
            assert rabbitmq.queues() == {"mine"}
            rabbitmq.close_connections()
            assert "closed by a test" in await watch.until("lost")
        await watch.until("set up")
    assert rabbitmq.queues() == set()
    assert rabbitmq.broker.connection_names(rabbitmq.name) == set()


async def test_a_name_that_another_has_ends_a_first_start(rabbitmq: Vhost) -> None:
    other = await AmqpConnection.open(rabbitmq.url, name="other")
    await (await other.channel()).declare_queue("mine", exclusive=True)
    with pytest.raises(AmqpError, match="queue mine: RESOURCE_LOCKED") as caught:
        await Watch(rabbitmq.url).kept.run()
    assert caught.value.code == 405
    await other.close()


async def test_a_name_that_is_still_held_after_a_loss_is_waited_for(rabbitmq: Vhost) -> None:
    watch = Watch(rabbitmq.url)
    other = await AmqpConnection.open(rabbitmq.url, name="other")
    channel = await other.channel()
    async with watch.running():
        await watch.until("set up")
        assert watch.kept.connection is not None
        watch.kept.connection.abort()
        while True:
            try:
                await channel.declare_queue("mine", exclusive=True)
                break
            except AmqpError:  # the broker has not noticed yet that it is free, or it came back first
                assert watch.kept.connection is None or watch.kept.connection.is_open
                if watch.kept.connection is not None:
                    watch.kept.connection.abort()
                channel = await other.channel()
        await watch.until("waiting")
        await other.close()
        await watch.until("set up")


async def test_a_wrong_password_ends_it(rabbitmq: Vhost) -> None:
    with pytest.raises(AmqpError, match="look at user and password"):
        await Watch(rabbitmq.url._replace(password="x")).kept.run()


async def test_a_broker_that_is_not_there_is_waited_for() -> None:
    watch = Watch(AmqpUrl.parse("amqp://127.0.0.1:9"))
    async with watch.running():
        for _ in range(3):
            await watch.until("waiting")


async def test_a_file_that_is_not_there_ends_a_first_start(tmp_path: Path) -> None:
    url = AmqpUrl.parse(f"amqps://localhost/?ca={tmp_path / 'absent'}")
    with pytest.raises(TumplineError, match="is no usable PEM file"):
        await Watch(url).kept.run()
