"""Brokers: where a message goes by its key."""

from __future__ import annotations

from typing import Any, Final

from tumpline.testing.conformance._brokers_ground import (
    ACCESS_REFUSED,
    COMMAND_INVALID,
    NOT_FOUND,
    PRECONDITION_FAILED,
    TOPIC,
    Check,
    Ground,
    Returns,
    in_queue,
    refused,
)


async def check_topics(ground: Ground) -> None:
    """`*` is one word, `#` any number; who is bound twice hears once."""
    channel = await ground.channel()
    patterns = {"one": ["a.*.c"], "all": ["a.#"], "twice": ["a.b.c", "*.b.#", "#"], "end": ["#.c"], "exact": ["a.b.c"]}
    for queue, keys in patterns.items():
        await channel.declare_queue(queue, exclusive=True)
        for key in keys:
            await channel.bind(queue, TOPIC, key)
    for key in ("a.b.c", "a.c", "a", "a.b.c.d", "c", "", "a..c", "x.b"):
        channel.publish(TOPIC, key, key.encode())
    found = {queue: await in_queue(channel, queue) for queue in patterns}
    assert found == {
        "one": [b"a.b.c", b"a..c"],
        "all": [b"a.b.c", b"a.c", b"a", b"a.b.c.d", b"a..c"],
        "twice": [b"a.b.c", b"a.c", b"a", b"a.b.c.d", b"c", b"", b"a..c", b"x.b"],
        "end": [b"a.b.c", b"a.c", b"c", b"a..c"],
        "exact": [b"a.b.c"],
    }


async def check_unbind(ground: Ground) -> None:
    """From one key; others go on. What is not bound can be unbound."""
    channel = await ground.channel()
    await channel.declare_queue("q", exclusive=True)
    for key in ("a.*", "b.*", "a.*"):
        await channel.bind("q", TOPIC, key)
    await channel.unbind("q", TOPIC, "a.*")
    await channel.unbind("q", TOPIC, "never")
    for key in ("a.1", "b.1"):
        channel.publish(TOPIC, key, key.encode())
    assert await in_queue(channel, "q") == [b"b.1"]


async def check_kinds_of_exchanges(ground: Ground) -> None:
    """Direct, fanout, and the default one, which leads to each queue by its name."""
    channel = await ground.channel()
    await channel.declare_exchange("ours", "fanout", auto_delete=False)
    for queue in ("q1", "q2"):
        await channel.declare_queue(queue, exclusive=True)
        await channel.bind(queue, "amq.direct", "k" + queue)
        await channel.bind(queue, "ours", "whatever")
    channel.publish("amq.direct", "kq1", b"direct")
    channel.publish("ours", "else", b"fanout")
    channel.publish("", "q2", b"default")
    assert await in_queue(channel, "q1") == [b"direct", b"fanout"]
    assert await in_queue(channel, "q2") == [b"fanout", b"default"]
    await channel.delete_exchange("ours")
    channel.publish("ours", "else", b"too late")
    assert await refused(channel.declare_queue("q1", passive=True)) == NOT_FOUND


async def check_refusals_of_exchanges(ground: Ground) -> None:
    """Unknown ones, other kinds, names of the broker's."""
    assert await refused((await ground.channel()).declare_exchange("absent", passive=True)) == NOT_FOUND
    assert await refused((await ground.channel()).declare_exchange("amq.mine", "topic")) == ACCESS_REFUSED
    assert await refused((await ground.channel()).delete_exchange(TOPIC)) == ACCESS_REFUSED
    channel = await ground.channel()
    await channel.declare_exchange(TOPIC, "topic", passive=True)
    await channel.declare_exchange(TOPIC, "topic", durable=True)
    assert await refused(channel.declare_exchange(TOPIC, "fanout", durable=True)) == PRECONDITION_FAILED
    channel = await ground.channel()
    await channel.declare_queue("q", exclusive=True)
    assert await refused(channel.bind("q", "absent", "k")) == NOT_FOUND


async def check_exchanges_of_exchanges(ground: Ground) -> None:
    """What one has goes to another one, once, even in circles; what nobody wants goes to the alternate one."""
    channel = await ground.channel()
    returns = channel.on_return = Returns()
    await channel.declare_exchange("rest", "fanout")
    await channel.declare_exchange("second", "topic", arguments={"alternate-exchange": "rest"})
    for key in ("a.*", "b.#"):
        await channel.bind_exchange("second", TOPIC, key)
    await channel.bind_exchange(TOPIC, "second", "a.circle")
    for queue, exchange, key in (("q", "second", "a.#"), ("q", TOPIC, "a.1"), ("others", "rest", "")):
        await channel.declare_queue(queue, exclusive=True)
        await channel.bind(queue, exchange, key)
    for key in ("a.1", "a.circle", "b.1.2", "a.1.2", "c"):
        await channel.publish_confirmed(TOPIC, key, key.encode(), mandatory=True)
    assert await in_queue(channel, "q") == [b"a.1", b"a.circle"]
    assert await in_queue(channel, "others") == [b"b.1.2"]
    assert [each.routing_key for each in returns.returned] == ["a.1.2", "c"]
    for exchange in ("second", "rest"):
        await channel.delete_exchange(exchange)
    await channel.publish_confirmed(TOPIC, "a.1", b"directly")
    assert await in_queue(channel, "q") == [b"directly"]


async def check_auto_delete_of_exchanges(ground: Ground) -> None:
    """With the last binding that leads away from it, by whatever way that goes."""
    client = await ground.client()
    channel = await client.channel()
    for ends in ("unbind", "queue", "exchange"):
        await channel.declare_exchange("short", "topic", auto_delete=True)
        await channel.declare_exchange("short", passive=True)
        await channel.bind_exchange("short", TOPIC, "leads to it")
        await channel.declare_queue("q")
        await channel.declare_exchange("target", "fanout")
        if ends == "exchange":
            await channel.bind_exchange("target", "short", "k")
            await channel.delete_exchange("target")
        else:
            await channel.bind("q", "short", "k")
            await (channel.unbind("q", "short", "k") if ends == "unbind" else channel.delete_queue("q"))
        assert await refused((await client.channel()).declare_exchange("short", passive=True)) == NOT_FOUND
        await channel.delete_queue("q")
        await channel.delete_exchange("target")
    assert await refused(channel.declare_exchange("odd", "headers-of-mine")) == COMMAND_INVALID
    await client.closed()


async def check_declarations_of_exchanges(ground: Ground) -> None:
    """The same again, and otherwise."""
    client = await ground.client()
    channel = await client.channel()
    await channel.declare_exchange("e", "topic", auto_delete=True, arguments={"alternate-exchange": "other"})
    await channel.declare_exchange("e", "topic", auto_delete=True, arguments={"alternate-exchange": "other"})
    others: list[dict[str, Any]] = [
        {"kind": "fanout", "auto_delete": True, "arguments": {"alternate-exchange": "other"}},
        {"auto_delete": True, "durable": True, "arguments": {"alternate-exchange": "other"}},
        {"arguments": {"alternate-exchange": "other"}},
        {"auto_delete": True, "arguments": {"alternate-exchange": "another"}},
    ]
    for other in others:
        assert await refused((await client.channel()).declare_exchange("e", **other)) == PRECONDITION_FAILED
    queue = (await channel.declare_queue(exclusive=True)).name
    await channel.bind(queue, "e", "k")
    assert await refused((await client.channel()).delete_exchange("e", if_unused=True)) == PRECONDITION_FAILED
    await channel.delete_exchange("e")
    assert await refused((await client.channel()).bind_exchange("e", TOPIC, "k")) == NOT_FOUND


CHECKS: Final[list[Check]] = [
    check_topics,
    check_unbind,
    check_kinds_of_exchanges,
    check_refusals_of_exchanges,
    check_exchanges_of_exchanges,
    check_auto_delete_of_exchanges,
    check_declarations_of_exchanges,
]
