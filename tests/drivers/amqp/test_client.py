"""Our client against RabbitMQ: what the conformance suite of brokers does not ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from tumpline.drivers.amqp import AmqpConnection, AmqpError, AmqpUrl, Delivery, Properties
from tumpline.drivers.amqp.connection import BACKLOG_OCTETS_MOST
from tumpline.drivers.amqp_broker import BrokerServer
from tumpline.drivers.dial import Address
from tumpline.machines.amqp_broker import BrokerConfig
from tumpline.testing.rabbitmq import RabbitMq, Vhost


class Ear:
    """What a consumer hears."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Delivery] = asyncio.Queue()

    def __call__(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.heard.put_nowait(delivery._replace(body=bytes(delivery.body)))

    async def bodies(self, count: int) -> list[bytes | memoryview]:
        return [(await self.heard.get()).body for _ in range(count)]


async def test_messages_of_all_lengths(rabbitmq: Vhost) -> None:
    connection = await AmqpConnection.open(rabbitmq.url, name="lengths")
    channel = await connection.channel()
    ear = Ear()
    queue = (await channel.declare_queue(exclusive=True)).name
    await channel.bind(queue, "amq.topic", "a.*")
    await channel.consume(queue, ear, no_ack=True)
    lengths = [0, 1, 1400, 16_383, 16_384, 60_000, 131_063, 131_064, 131_065, 400_000, 5_000_000, 3]
    bodies = [bytes([number]) * length for number, length in enumerate(lengths)]
    properties = Properties(content_type="application/json", headers={"n": 1})
    for body in bodies:
        assert channel.publish("amq.topic", "a.b", body, properties)
        assert channel.publish("amq.topic", "a.b", (body[:7], memoryview(body)[7:]), properties)
    heard = [await ear.heard.get() for _ in range(2 * len(bodies))]
    assert [each.body for each in heard] == [body for body in bodies for _ in range(2)]
    assert {(each.exchange, each.routing_key, each.redelivered) for each in heard} == {("amq.topic", "a.b", False)}
    assert all(each.properties == properties for each in heard)
    assert [each.delivery_tag for each in heard] == list(range(1, len(heard) + 1))
    await connection.close()
    assert await connection.closed() == "closed here"
    assert rabbitmq.queues() == set()


async def test_who_is_refused_is_told_the_remedy(rabbitmq: Vhost) -> None:
    with pytest.raises(AmqpError, match="refused the login of user tester: look at user and password") as caught:
        await AmqpConnection.open(rabbitmq.url._replace(password="wrong-one"), name="x")
    assert caught.value.code == 403
    assert "wrong-one" not in repr(caught.value)
    with pytest.raises(AmqpError, match=r"no virtual host 'nowhere'.*rabbitmqctl add_vhost nowhere") as caught:
        await AmqpConnection.open(rabbitmq.url._replace(virtual_host="nowhere"), name="x")
    assert caught.value.code == 530


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "no answer within 0.3 s"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the broker broke the rules of AMQP: a frame of"),
        (b"AMQP\0\1\0\0", "it speaks another version than AMQP 0-9-1"),
        (None, "the broker closed it without a word"),
    ],
)
async def test_what_listens_there_and_is_no_broker(answer: bytes | None, why: str) -> None:
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        if answer is not None:
            writer.write(answer)
            await reader.read()
        writer.close()
        done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = AmqpUrl(port=server.sockets[0].getsockname()[1])
    with pytest.raises(AmqpError, match="no AMQP connection: ") as caught:
        await AmqpConnection.open(url, name="x", timeout_s=0.3 if answer == b"" else 30)
    assert why in str(caught.value)
    assert str(caught.value).endswith("; look whether a broker (RabbitMQ) listens there")
    await done.wait()
    server.close()
    await server.wait_closed()


async def test_a_killed_broker_is_noticed_and_comes_back(own_rabbitmq: RabbitMq) -> None:
    url = own_rabbitmq.url()
    connection = await AmqpConnection.open(url, name="x")
    channel = await connection.channel()
    ended: list[AmqpError] = []
    channel.on_closed = ended.append
    own_rabbitmq.kill()
    await connection.closed()
    assert [error.code for error in ended] == [0]
    assert channel.publish("amq.topic", "k", b"") is False
    with pytest.raises(AmqpError, match="the connection is over"):
        await channel.declare_queue()
    own_rabbitmq.start()
    connection = await AmqpConnection.open(url, name="x")
    await connection.close()


async def test_a_handler_that_fails_ends_the_connection() -> None:
    """And is heard of: who waited for what came behind it would wait for ever."""
    server = BrokerServer(BrokerConfig())
    await server.start(Address("127.0.0.1", 0))
    failed: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))
    connection = await AmqpConnection.open(AmqpUrl(port=server.port), name="x")
    channel = await connection.channel()
    await channel.declare_queue("q", exclusive=True)

    def fail(deliveries: Sequence[Delivery]) -> None:
        raise ZeroDivisionError("planted")

    await channel.consume("q", fail, no_ack=True)
    channel.publish("", "q", b"x")
    with pytest.raises(AmqpError, match="a handler failed: ZeroDivisionError"):
        await asyncio.gather(*(channel.publish_confirmed("", "q", b"y") for _ in range(3)))
    assert [type(error) for error in failed] == [ZeroDivisionError]
    await connection.close()
    await server.stop()


async def test_what_is_confirmed_while_it_closes(rabbitmq: Vhost) -> None:
    """Neither waits for ever nor is said to have gone."""
    connection = await AmqpConnection.open(rabbitmq.url, name="x")
    channels = [await connection.channel() for _ in range(2)]
    for channel in channels:
        await channel.publish_confirmed("amq.topic", "k", b"")
    closing = asyncio.gather(channels[0].close(), connection.close())
    await asyncio.sleep(0)
    for channel in channels:
        with pytest.raises(AmqpError, match=r"is being closed|was not sent"):
            await channel.publish_confirmed("amq.topic", "k", b"")
    await closing
    for channel in channels:
        with pytest.raises(AmqpError, match="is over"):
            await channel.publish_confirmed("amq.topic", "k", b"")


async def test_a_broker_that_does_not_read_is_congestion(rabbitmq: Vhost) -> None:
    """What waits to be written is bounded; who can wait is told to."""
    release, ended = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes on what the client says, and from the second MiB on only when it is told to."""
        there, back = await asyncio.open_connection("127.0.0.1", rabbitmq.url.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(there, writer, None), name="answers")
            group.create_task(_copy(reader, back, release), name="slow")
        ended.set()

    relay = await asyncio.start_server(slow, "127.0.0.1", 0)
    port = relay.sockets[0].getsockname()[1]
    connection = await AmqpConnection.open(rabbitmq.url._replace(port=port, heartbeat_s=0), name="x")
    channel = await connection.channel()
    queue = (await channel.declare_queue(exclusive=True, arguments={"x-max-length": 2})).name
    told: list[str] = []
    connection.on_congested = lambda: told.append("congested")
    connection.on_drained = lambda: told.append("drained")
    body = bytes(100_000)
    sent = 0
    while channel.publish("", queue, body):
        sent += 1
        await asyncio.sleep(0)
    assert told == ["congested"]
    assert connection.is_congested
    assert BACKLOG_OCTETS_MOST < sent * len(body) < 2 * BACKLOG_OCTETS_MOST
    assert connection.dropped == 1
    release.set()
    await connection.drained()
    assert told == ["congested", "drained"]
    await channel.publish_confirmed("", queue, b"last")
    await connection.close()
    await ended.wait()
    relay.close()
    await relay.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, release: asyncio.Event | None) -> None:
    octets = 0
    while data := await reader.read(1 << 16):
        octets += len(data)
        writer.write(data)
        await writer.drain()
        if release is not None and octets > 1 << 20:
            await release.wait()
    writer.close()
    with suppress(OSError):  # the other side may have been first
        await writer.wait_closed()
