"""Brokers: who gets a message, and what if it is not acknowledged."""

from __future__ import annotations

import asyncio
from typing import Final

from tumpline.drivers.amqp import Properties
from tumpline.testing.conformance._brokers_ground import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    Check,
    Ear,
    Ground,
    in_queue,
    refused,
)


async def check_messages_of_all_lengths(ground: Ground) -> None:
    """In one frame or many, in order, with their properties."""
    channel = await ground.channel()
    queue = (await channel.declare_queue(exclusive=True)).name
    ear = await Ear.of(channel, queue, no_ack=True)
    properties = Properties(
        "application/json", "utf-8", {"a": 1, "b": [True, "c"]}, 1, 3, "corr", "reply", None, "id", 17
    )
    bodies = [bytes([length % 251]) * length for length in (0, 1, 1400, 131_064, 131_065, 262_128, 1_000_000, 0, 7)]
    for body in bodies:
        channel.publish("", queue, body, properties)
    heard = [await ear.next() for _ in bodies]
    assert [each.body for each in heard] == bodies
    assert all(each.properties == properties for each in heard)


async def check_consumers_take_turns(ground: Ground) -> None:
    """Each gets its share, in order; together they get all."""
    client = await ground.client()
    channel = await client.channel()
    await channel.declare_queue("q", exclusive=True)
    ears = [await Ear.of(await client.channel(), "q", no_ack=True) for _ in range(2)]
    for number in range(10):
        channel.publish("", "q", b"%d" % number)
    found = [await ear.bodies(5) for ear in ears]
    assert sorted(found) == [[b"%d" % number for number in range(start, 10, 2)] for start in (0, 1)]


async def check_exclusive_consumers(ground: Ground) -> None:
    """One alone, or none."""
    client = await ground.client()
    channel = await client.channel()
    await channel.declare_queue("q", exclusive=True)
    ear = await Ear.of(channel, "q", exclusive=True)
    other = await client.channel()
    assert await refused(other.consume("q", lambda _: None)) == ACCESS_REFUSED
    await channel.cancel(ear.tag)
    await Ear.of(channel, "q")
    other = await client.channel()
    assert await refused(other.consume("q", lambda _: None, exclusive=True)) == ACCESS_REFUSED
    other = await client.channel()
    assert await refused(other.consume("absent", lambda _: None)) == NOT_FOUND


async def check_single_active_consumer(ground: Ground) -> None:
    """The first gets all, in order; when it goes, the next one does."""
    client = await ground.client()
    channel = await client.channel()
    await channel.declare_queue("q", auto_delete=True, arguments={"x-single-active-consumer": True})
    first = await Ear.of(await client.channel(), "q", no_ack=True)
    leaving = await ground.client()
    second = await Ear.of(await leaving.channel(), "q", keeps=True)
    third = await Ear.of(await client.channel(), "q", no_ack=True)
    for number in range(20):
        channel.publish("", "q", b"%d" % number)
    assert await first.bodies(20) == [b"%d" % number for number in range(20)]
    await first._channel.cancel(first.tag)
    channel.publish("", "q", b"to the second")
    assert await second.bodies(1) == [b"to the second"]
    leaving.abort()
    await leaving.closed()
    channel.publish("", "q", b"to the third")
    assert await third.bodies(2) == [b"to the second", b"to the third"]  # what was not acknowledged comes again
    assert first.silent
    assert second.silent


async def check_cancel_by_the_broker(ground: Ground) -> None:
    """Whoever consumes a queue that is deleted is told."""
    client = await ground.client()
    channel = await client.channel()
    told: asyncio.Queue[str] = asyncio.Queue()
    channel.on_cancelled = told.put_nowait
    await channel.declare_queue("q")
    ear = await Ear.of(channel, "q")
    await (await ground.channel()).delete_queue("q")
    assert await told.get() == ear.tag
    await channel.declare_queue("q", exclusive=True)  # the channel goes on


async def check_prefetch(ground: Ground) -> None:
    """So many wait for an acknowledgement, and no more."""
    channel = await ground.channel()
    await channel.qos(2)
    await channel.declare_queue("q", exclusive=True)
    ear = await Ear.of(channel, "q", keeps=True)
    for number in range(5):
        channel.publish("", "q", b"%d" % number)
    one, two = await ear.next(), await ear.next()
    state = await channel.declare_queue("q", passive=True)
    assert state.messages <= 3
    assert ear.silent
    channel.ack(one.delivery_tag)
    three = await ear.next()
    assert ear.silent
    channel.ack(three.delivery_tag, multiple=True)
    assert await ear.bodies(2) == [b"3", b"4"]
    assert [two.body, three.body] == [b"1", b"2"]


async def check_redelivery(ground: Ground) -> None:
    """What was not acknowledged comes again, in its place, and says so."""
    client, other = await ground.client(), await ground.client()
    channel = await client.channel()
    await channel.declare_queue("q")
    ear = await Ear.of(channel, "q", keeps=True)
    for number in range(4):
        await channel.publish_confirmed("", "q", b"%d" % number)
    first = [await ear.next() for _ in range(4)]
    assert not any(each.redelivered for each in first)
    channel.nack(first[1].delivery_tag)
    again = await ear.next()
    assert (again.body, again.redelivered) == (b"1", True)
    channel.nack(first[2].delivery_tag, requeue=False)
    channel.ack(first[3].delivery_tag)
    await channel.declare_queue("q", passive=True)
    client.abort()
    next_one = await Ear.of(await other.channel(), "q")
    heard = [await next_one.next() for _ in range(2)]
    assert [(each.body, each.redelivered) for each in heard] == [(b"0", True), (b"1", True)]
    await (await other.channel()).delete_queue("q")


async def check_nack_of_many(ground: Ground) -> None:
    """All up to one, in order; and a tag that was never given."""
    channel = await ground.channel()
    await channel.declare_queue("q", exclusive=True)
    for number in range(3):
        channel.publish("", "q", b"%d" % number)
    got = [await channel.get("q") for _ in range(3)]
    assert got[1] is not None
    channel.nack(got[1].delivery_tag, multiple=True)
    assert await in_queue(channel, "q") == [b"0", b"1"]
    channel.ack(999)
    assert await refused(channel.declare_queue("q", passive=True)) == PRECONDITION_FAILED


async def check_get(ground: Ground) -> None:
    """One, or none."""
    channel = await ground.channel()
    await channel.declare_queue("q", exclusive=True)
    assert await channel.get("q") is None
    channel.publish("", "q", b"x" * 200_000, Properties(type="t"))
    got = await channel.get("q")
    assert got is not None
    assert (got.body, got.properties.type, got.redelivered, got.routing_key) == (b"x" * 200_000, "t", False, "q")
    assert await refused(channel.get("absent")) == NOT_FOUND


CHECKS: Final[list[Check]] = [
    check_messages_of_all_lengths,
    check_consumers_take_turns,
    check_exclusive_consumers,
    check_single_active_consumer,
    check_cancel_by_the_broker,
    check_prefetch,
    check_redelivery,
    check_nack_of_many,
    check_get,
]
