"""What every broker must hold, as clients see it. What is written here is what RabbitMQ does.

for kind in KINDS: for check in CHECKS: await check(ground of that kind)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from tumpline.drivers.amqp import AmqpChannel, AmqpConnection, AmqpError, AmqpUrl, Delivery, Properties, ReturnedMessage

TOPIC: Final = "amq.topic"
ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 403, 404, 405, 406
COMMAND_INVALID, NOT_ALLOWED = 503, 530


class Ground:
    """A broker that a check has for itself, and the clients that it opens there."""

    def __init__(self, url: AmqpUrl, set_blocked: Callable[[bool], None]) -> None:
        self.url = url
        self.set_blocked = set_blocked  # publishers are to wait, or not any more
        self._clients: list[AmqpConnection] = []

    async def client(self, **of_url: Any) -> AmqpConnection:
        """One more."""
        client = await AmqpConnection.open(self.url._replace(**of_url), name="conformance")
        self._clients.append(client)
        return client

    async def channel(self) -> AmqpChannel:
        """On a connection of its own."""
        return await (await self.client()).channel()

    async def close(self) -> None:
        """All clients."""
        for client in self._clients:
            await client.close()


Check = Callable[[Ground], Awaitable[None]]


class Ear:
    """What a consumer hears, in order."""

    def __init__(self, channel: AmqpChannel, *, keeps: bool = False) -> None:
        self.tag = ""
        self._channel = channel
        self._keeps = keeps  # acknowledge nothing
        self._heard: asyncio.Queue[Delivery] = asyncio.Queue()

    @classmethod
    async def of(cls, channel: AmqpChannel, queue: str, *, keeps: bool = False, **flags: Any) -> Ear:
        """Consume a queue."""
        ear = cls(channel, keeps=keeps)
        ear.tag = await channel.consume(queue, ear._hear, **flags)
        ear._keeps = keeps or flags.get("no_ack", False)
        return ear

    def _hear(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._heard.put_nowait(delivery._replace(body=bytes(delivery.body)))
            if not self._keeps:
                self._channel.ack(delivery.delivery_tag)

    async def next(self) -> Delivery:
        """What comes next."""
        return await self._heard.get()

    async def bodies(self, count: int) -> list[bytes]:
        """Of the next ones."""
        return [bytes((await self.next()).body) for _ in range(count)]

    @property
    def silent(self) -> bool:
        """Nothing is there that nobody took."""
        return self._heard.empty()


async def refused(request: Awaitable[Any]) -> int:
    """The code that a request is answered by; it has a sentence."""
    answer: Any = (await asyncio.gather(request, return_exceptions=True))[0]
    assert isinstance(answer, AmqpError), f"answered by {answer!r} instead of a refusal"
    assert answer.text
    return answer.code


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """What a broker does in its own time."""
    while not await holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def is_there(ground: Ground, queue: str) -> bool:
    """Whether a queue of this name is."""
    channel = await ground.channel()
    answer: Any = (await asyncio.gather(channel.declare_queue(queue, passive=True), return_exceptions=True))[0]
    return not isinstance(answer, AmqpError) or answer.code != NOT_FOUND


async def in_queue(channel: AmqpChannel, queue: str) -> list[bytes]:
    """What waits there, in order; it is taken out."""
    found = []
    while (delivery := await channel.get(queue, no_ack=True)) is not None:
        found.append(bytes(delivery.body))
    return found


# ---- exchanges and bindings ------------------------------------------------------------------------------------------


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
    returns = channel.on_return = _Returns()
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


# ---- queues ----------------------------------------------------------------------------------------------------------


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
    watcher.on_return = _Returns()
    while not watcher.on_return.returned:  # looking at it by its name would be a use
        watcher.publish("", "idle", b"are you there?", mandatory=True)
        await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - started > 0.1
    channel.publish("", "used", b"x")
    assert await ear.bodies(1) == [b"x"]
    await channel.cancel(ear.tag)
    await eventually(lambda: _is_gone_unseen(watcher, "used"))


class _Returns:
    def __init__(self) -> None:
        self.returned: list[ReturnedMessage] = []
        self.came = asyncio.Event()

    def __call__(self, message: ReturnedMessage) -> None:
        self.returned.append(message._replace(body=bytes(message.body)))
        self.came.set()


async def _is_gone_unseen(channel: AmqpChannel, queue: str) -> bool:
    returns = channel.on_return = _Returns()
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


# ---- consuming -------------------------------------------------------------------------------------------------------


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


# ---- publishing ------------------------------------------------------------------------------------------------------


async def check_returns(ground: Ground) -> None:
    """A mandatory message without a queue comes back, before its confirm; another one is nobody's business."""
    channel = await ground.channel()
    returns = channel.on_return = _Returns()
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


# ---- connections -----------------------------------------------------------------------------------------------------


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
    silent._disarm()  # it keeps the socket, and says nothing any more
    silent._arm = lambda: None  # type: ignore[method-assign]
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
    check_topics,
    check_unbind,
    check_kinds_of_exchanges,
    check_refusals_of_exchanges,
    check_exchanges_of_exchanges,
    check_auto_delete_of_exchanges,
    check_declarations_of_exchanges,
    check_declarations,
    check_purge_and_delete,
    check_exclusive_queues,
    check_auto_delete,
    check_bounded_queues,
    check_a_bounded_queue_with_a_consumer,
    check_time_to_live,
    check_expiring_queues,
    check_arguments_of_large_events,
    check_messages_of_all_lengths,
    check_consumers_take_turns,
    check_exclusive_consumers,
    check_single_active_consumer,
    check_cancel_by_the_broker,
    check_prefetch,
    check_redelivery,
    check_nack_of_many,
    check_get,
    check_returns,
    check_confirms,
    check_publishing_to_an_unknown_exchange,
    check_blocked,
    check_login,
    check_heartbeats,
    check_channels,
]
