"""Brokers: queues, whose they are, what they hold, and when they go."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tumpline.drivers.amqp import AmqpChannel, AmqpError
from tumpline.testing.conformance._brokers_ground import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    TOPIC,
    Check,
    Ear,
    Ground,
    Returns,
    eventually,
    in_queue,
    is_there,
    refused,
)


async def check_declarations(ground: Ground) -> None:
    """A name of the broker's, counts, the same again, and otherwise."""
    client = await ground.client()
    channel = await client.channel()
    named = await channel.declare_queue(exclusive=True)
    assert named.name.startswith("amq.gen-")
    assert (await channel.declare_queue("q", auto_delete=True, arguments={"x-max-length": 5})).messages == 0
    for body in (b"1", b"2"):
        await channel.publish_confirmed("", "q", body)
    again = await channel.declare_queue("q", auto_delete=True, arguments={"x-max-length": 5})
    assert again == ("q", 2, 0)
    await channel.consume("q", lambda _: None)
    assert (await channel.declare_queue("q", passive=True)).consumers == 1
    others: list[dict[str, Any]] = [
        {"auto_delete": True, "arguments": {"x-max-length": 6}},
        {"arguments": {"x-max-length": 5}},
        {"auto_delete": True, "durable": True, "arguments": {"x-max-length": 5}},
        {"auto_delete": True},
    ]
    for other in others:
        assert await refused((await client.channel()).declare_queue("q", **other)) == PRECONDITION_FAILED
    assert await refused((await client.channel()).declare_queue("absent", passive=True)) == NOT_FOUND
    assert await refused((await client.channel()).declare_queue("amq.mine")) == ACCESS_REFUSED
    odd = {"x-max-length": -1}
    assert await refused((await client.channel()).declare_queue("odd", arguments=odd)) == PRECONDITION_FAILED


async def check_purge_and_delete(ground: Ground) -> None:
    """With conditions, and of what is not there."""
    client = await ground.client()
    channel = await client.channel()
    await channel.declare_queue("q")
    for _ in range(3):
        await channel.publish_confirmed("", "q", b"x")
    assert await refused((await client.channel()).delete_queue("q", if_empty=True)) == PRECONDITION_FAILED
    assert await channel.purge("q") == 3
    await channel.publish_confirmed("", "q", b"x")
    tag = await channel.consume("q", lambda _: None)
    assert await refused((await client.channel()).delete_queue("q", if_unused=True)) == PRECONDITION_FAILED
    await channel.cancel(tag)
    await channel.delete_queue("q", if_unused=True)
    assert await channel.delete_queue("q") == 0
    assert await refused(channel.purge("q")) == NOT_FOUND


async def check_exclusive_queues(ground: Ground) -> None:
    """Nobody else may touch them; they go with their connection."""
    owner, other = await ground.client(), await ground.client()
    channel = await owner.channel()
    await channel.declare_queue("mine", exclusive=True)
    second = await owner.channel()
    await second.declare_queue("mine", exclusive=True)  # of the connection, not of the channel
    assert await refused((await other.channel()).declare_queue("mine", exclusive=True)) == RESOURCE_LOCKED
    assert await refused((await other.channel()).declare_queue("mine", passive=True)) == RESOURCE_LOCKED
    assert await refused((await other.channel()).consume("mine", lambda _: None)) == RESOURCE_LOCKED
    assert await refused((await other.channel()).bind("mine", TOPIC, "k")) == RESOURCE_LOCKED
    assert await refused((await other.channel()).delete_queue("mine")) == RESOURCE_LOCKED
    (await other.channel()).publish("", "mine", b"anybody may send there")
    ear = await Ear.of(channel, "mine")
    assert await ear.bodies(1) == [b"anybody may send there"]
    await channel.close()
    assert await is_there(ground, "mine")
    owner.abort()
    await eventually(lambda: _can_declare(ground, "mine"))


async def _can_declare(ground: Ground, queue: str) -> bool:
    channel = await ground.channel()
    answer: Any = (await asyncio.gather(channel.declare_queue(queue, exclusive=True), return_exceptions=True))[0]
    assert not isinstance(answer, AmqpError) or answer.code == RESOURCE_LOCKED
    return not isinstance(answer, AmqpError)


async def check_auto_delete(ground: Ground) -> None:
    """With the last consumer, not before the first; by cancel, by the end of a channel, and of a connection."""
    client = await ground.client()
    watcher = await client.channel()
    for ends in ("cancel", "channel", "connection"):
        other = await ground.client()
        a, b = await other.channel(), await other.channel()
        await a.declare_queue("q", auto_delete=True)
        await watcher.declare_queue("q", passive=True)
        first, second = await Ear.of(a, "q"), await Ear.of(b, "q")
        await a.cancel(first.tag)
        await watcher.declare_queue("q", passive=True)
        if ends == "cancel":
            await b.cancel(second.tag)
        elif ends == "channel":
            await b.close()
        else:
            other.abort()
        await eventually(lambda: _is_gone(ground, "q"))


async def _is_gone(ground: Ground, queue: str) -> bool:
    return not await is_there(ground, queue)


async def check_bounded_queues(ground: Ground) -> None:
    """The oldest are dropped: by count, and by octets of bodies."""
    channel = await ground.channel()
    await channel.declare_queue("count", arguments={"x-max-length": 3, "x-overflow": "drop-head"}, auto_delete=True)
    await channel.declare_queue("octets", arguments={"x-max-length-bytes": 10}, auto_delete=True)
    await channel.declare_queue("none", arguments={"x-max-length": 0}, auto_delete=True)
    for number in range(8):
        for queue in ("count", "octets", "none"):
            await channel.publish_confirmed("", queue, b"%d---" % number)
    assert await in_queue(channel, "count") == [b"5---", b"6---", b"7---"]
    assert await in_queue(channel, "octets") == [b"6---", b"7---"]
    assert await in_queue(channel, "none") == []
    for queue in ("count", "octets", "none"):
        await channel.delete_queue(queue)


async def check_a_bounded_queue_with_a_consumer(ground: Ground) -> None:
    """Whoever reads in time gets all."""
    channel = await ground.channel()
    await channel.declare_queue("q", arguments={"x-max-length": 1000}, exclusive=True)
    ear = await Ear.of(channel, "q", no_ack=True)
    for number in range(500):
        channel.publish("", "q", b"%d" % number)
    assert await ear.bodies(500) == [b"%d" % number for number in range(500)]


async def check_time_to_live(ground: Ground) -> None:
    """Messages that wait for too long are gone."""
    channel = await ground.channel()
    await channel.declare_queue("q", arguments={"x-message-ttl": 60}, exclusive=True)
    await channel.publish_confirmed("", "q", b"x")
    await eventually(lambda: _is_empty(channel, "q"))


async def _is_empty(channel: AmqpChannel, queue: str) -> bool:
    return (await channel.declare_queue(queue, passive=True)).messages == 0


async def check_expiring_queues(ground: Ground) -> None:
    """Unused for so long, a queue is deleted; with a consumer it is not."""
    client = await ground.client()
    channel = await client.channel()
    for queue in ("idle", "used"):
        await channel.declare_queue(queue, arguments={"x-expires": 150})
    ear = await Ear.of(channel, "used")
    started = asyncio.get_running_loop().time()
    watcher = await client.channel()
    watcher.on_return = Returns()
    while not watcher.on_return.returned:  # looking at it by its name would be a use
        watcher.publish("", "idle", b"are you there?", mandatory=True)
        await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - started > 0.1
    channel.publish("", "used", b"x")
    assert await ear.bodies(1) == [b"x"]
    await channel.cancel(ear.tag)
    await eventually(lambda: _is_gone_unseen(watcher, "used"))


async def _is_gone_unseen(channel: AmqpChannel, queue: str) -> bool:
    returns = channel.on_return = Returns()
    await channel.publish_confirmed("", queue, b"?", mandatory=True)
    return bool(returns.returned)


async def check_arguments_of_large_events(ground: Ground) -> None:
    """What a cluster's queues are declared with is taken where there is no cluster."""
    channel = await ground.channel()
    arguments = {"x-queue-type": "quorum", "x-expires": 60_000, "x-max-length": 1000, "x-single-active-consumer": True}
    await channel.declare_queue("q", durable=True, arguments=arguments)
    ear = await Ear.of(channel, "q", keeps=True)
    await channel.publish_confirmed("", "q", b"x")
    assert await ear.bodies(1) == [b"x"]
    await channel.delete_queue("q")
    flags: list[dict[str, bool]] = [
        {"durable": False},
        {"durable": True, "exclusive": True},
        {"durable": True, "auto_delete": True},
    ]
    for flag in flags:
        other = await ground.channel()
        assert (
            await refused(other.declare_queue("q2", **flag, arguments={"x-queue-type": "quorum"}))
            == PRECONDITION_FAILED
        )
    classic = await ground.channel()
    await classic.declare_queue("q3", exclusive=True, arguments={"x-queue-type": "classic", "x-queue-mode": "default"})


CHECKS: Final[list[Check]] = [
    check_declarations,
    check_purge_and_delete,
    check_exclusive_queues,
    check_auto_delete,
    check_bounded_queues,
    check_a_bounded_queue_with_a_consumer,
    check_time_to_live,
    check_expiring_queues,
    check_arguments_of_large_events,
]
