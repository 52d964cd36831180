"""Clients that nobody here wrote, of the embedded broker and of RabbitMQ."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import aio_pika
import pytest

from tumpline.drivers.amqp_broker import BrokerServer
from tumpline.drivers.dial import Address
from tumpline.machines.amqp_broker import BrokerConfig
from tumpline.testing.rabbitmq import Vhost

pika: Any = import_module("pika")  # these have no types
pika_exceptions: Any = import_module("pika.exceptions")
kombu: Any = import_module("kombu")
amqp_exceptions: Any = import_module("amqp.exceptions")

KEY = "toAgent.a.ip.tun.packet.raw"
LARGE = bytes(range(256)) * 4000  # in several frames


@pytest.fixture(params=["embedded", "rabbitmq"])
async def uri(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Of a virtual host."""
    if request.param == "rabbitmq":
        vhost: Vhost = request.getfixturevalue("rabbitmq")
        yield vhost.uri
        return
    server = BrokerServer(BrokerConfig())
    await server.start(Address("127.0.0.1", 0))
    yield f"amqp://guest:guest@127.0.0.1:{server.port}/session1"
    await server.stop()


def with_pika(uri: str) -> list[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(uri))
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", "toAgent.*.ip.#")
    for body in (b"first", LARGE, b""):
        channel.basic_publish("amq.topic", KEY, body, mandatory=True)
    with pytest.raises(pika_exceptions.UnroutableError):
        channel.basic_publish("amq.topic", "nobody", b"x", mandatory=True)
    seen = []
    for method, _, body in channel.consume(queue):
        seen.append((method.routing_key, method.redelivered, body))
        if len(seen) == 1:
            channel.basic_nack(method.delivery_tag)
            continue
        channel.basic_ack(method.delivery_tag)
        if len(seen) == 4:
            break
    channel.cancel()
    with pytest.raises(pika_exceptions.ChannelClosedByBroker, match="404"):
        channel.queue_declare("absent", passive=True)
    connection.close()
    return seen


async def test_pika(uri: str) -> None:
    seen = await asyncio.to_thread(with_pika, uri)
    assert [body for _, redelivered, body in seen if not redelivered] == [b"first", LARGE, b""]
    assert [body for _, redelivered, body in seen if redelivered] == [b"first"]


def with_kombu(uri: str) -> list[Any]:
    options = {"confirm_publish": True}  # as the older agent has it
    seen: list[Any] = []
    with kombu.Connection(uri, transport_options=options) as connection:
        exchange = kombu.Exchange("amq.topic", type="topic", durable=True)
        name = f"consumer: a.tun?rkey={KEY}"
        queue = kombu.Queue(name, exchange, routing_key=KEY, durable=False, auto_delete=True)

        def take(body: Any, message: Any) -> None:
            seen.append((body, message.content_type))
            message.ack()

        with connection.Consumer(queue, callbacks=[take], accept=["json"]):
            connection.Producer().publish({"data": [96, 0]}, exchange=exchange, routing_key=KEY, serializer="json")
            while not seen:
                connection.drain_events(timeout=30)
    with pytest.raises(amqp_exceptions.AccessRefused):
        kombu.Connection(re.sub(":[^:@]+@", ":wrong@", uri)).connect()
    return seen


async def test_kombu(uri: str) -> None:
    assert await asyncio.to_thread(with_kombu, uri) == [({"data": [96, 0]}, "application/json")]


async def test_aio_pika(uri: str) -> None:
    connection = await aio_pika.connect(uri)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(10)
        queue = await channel.declare_queue("q", auto_delete=True, arguments={"x-max-length": 100})
        exchange = await channel.get_exchange("amq.topic")
        await queue.bind(exchange, "k.#")
        for number in range(200):
            await exchange.publish(aio_pika.Message(b"%d" % number), "k.1")
        seen: list[int] = []
        async with queue.iterator() as messages:
            async for message in messages:
                seen.append(int(message.body))
                await message.ack()
                if seen[-1] == 199:
                    break
        assert seen == list(range(100, 200))
