"""Brokers: what publishers and connections are told."""

from __future__ import annotations

import asyncio
from typing import Final

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.amqp import AmqpError, Properties
from tumpline.testing.conformance._brokers_ground import (
    ACCESS_REFUSED,
    NOT_ALLOWED,
    NOT_FOUND,
    TOPIC,
    Check,
    Ear,
    Ground,
    Returns,
    refused,
)


async def check_returns(ground: Ground) -> None:
    """A mandatory message without a queue comes back, before its confirm; another one is nobody's business."""
    channel = await ground.channel()
    returns = channel.on_return = Returns()
    properties = Properties(content_type="text/plain")
    await channel.publish_confirmed(TOPIC, "nobody.there", b"body", properties, mandatory=True)
    assert returns.returned == [(312, "NO_ROUTE", TOPIC, "nobody.there", properties, b"body")]
    await channel.publish_confirmed(TOPIC, "nobody.there", b"body", properties)
    queue = (await channel.declare_queue(exclusive=True)).name
    await channel.publish_confirmed("", queue, b"body", mandatory=True)
    assert len(returns.returned) == 1
    await channel.delete_queue(queue)
    channel.publish("", queue, b"a" * 300_000, mandatory=True)
    returns.came.clear()
    await returns.came.wait()
    assert returns.returned[1].body == b"a" * 300_000


async def check_confirms(ground: Ground) -> None:
    """Many at once, each once."""
    channel = await ground.channel()
    await channel.declare_queue("q", exclusive=True)
    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(channel.publish_confirmed("", "q", b"%d" % number), name=f"publish {number}")
    assert (await channel.declare_queue("q", passive=True)).messages == 100


async def check_publishing_to_an_unknown_exchange(ground: Ground) -> None:
    """Ends the channel, not the connection."""
    client = await ground.client()
    channel = await client.channel()
    ended: asyncio.Queue[AmqpError] = asyncio.Queue()
    channel.on_closed = ended.put_nowait
    channel.publish("absent", "k", b"x")
    assert (await ended.get()).code == NOT_FOUND
    assert await refused(channel.declare_queue("q")) == NOT_FOUND
    await (await client.channel()).declare_queue("q", exclusive=True)


async def check_blocked(ground: Ground) -> None:
    """A broker that is short of memory says so to those who publish, and when it is not any more."""
    client = await ground.client()
    channel = await client.channel()
    told: asyncio.Queue[str] = asyncio.Queue()
    client.on_congested = lambda: told.put_nowait("congested")
    client.on_drained = lambda: told.put_nowait("drained")
    queue = (await channel.declare_queue(exclusive=True)).name
    ground.set_blocked(True)
    while told.empty():  # the alarm reaches whoever reads from us in its own time
        channel.publish("", queue, b"waits")
        await asyncio.sleep(0.01)
    assert (await told.get(), client.is_congested) == ("congested", True)
    ground.set_blocked(False)
    assert (await told.get(), client.is_congested) == ("drained", False)
    ear = await Ear.of(channel, queue)
    assert await ear.bodies(1) == [b"waits"]


async def check_login(ground: Ground) -> None:
    """A wrong password."""
    assert await refused(ground.client(password="wrong")) == ACCESS_REFUSED
    assert await refused(ground.client(user="nobody")) == ACCESS_REFUSED
    client = await ground.client()
    assert client.server_properties["product"]
    assert client.server_properties["capabilities"]["consumer_cancel_notify"] is True


async def check_heartbeats(ground: Ground) -> None:
    """A connection that has nothing to say lives; one whose client is silent ends."""
    quiet, silent = await ground.client(heartbeat_s=1), await ground.client(heartbeat_s=1)
    silent._alarm.cancel()
    silent._alarm = Alarm(lambda: None)  # it keeps the socket, and says nothing any more
    await silent.closed()
    assert quiet.is_open
    await (await quiet.channel()).declare_queue(exclusive=True)


async def check_channels(ground: Ground) -> None:
    """Several at once; numbers are used again; a used tag ends the connection."""
    client = await ground.client()
    for _ in range(300):
        channel = await client.channel()
        await channel.close()
    a, b = await client.channel(), await client.channel()
    await a.declare_queue("q", exclusive=True)
    ears = [await Ear.of(channel, "q") for channel in (a, b)]
    assert ears[0].tag == ears[1].tag  # tags are of a channel
    a._last_tag -= 1
    assert await refused(a.consume("q", lambda _: None)) == NOT_ALLOWED
    await client.closed()


CHECKS: Final[list[Check]] = [
    check_returns,
    check_confirms,
    check_publishing_to_an_unknown_exchange,
    check_blocked,
    check_login,
    check_heartbeats,
    check_channels,
]
