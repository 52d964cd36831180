"""amqps: RabbitMQ behind TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from tumpline.drivers.amqp import AmqpConnection, AmqpError, AmqpUrl, Delivery
from tumpline.errors import TumplineError
from tumpline.testing.certificates import Authority
from tumpline.testing.rabbitmq import Vhost


async def test_messages_of_all_lengths_over_tls(rabbitmq: Vhost) -> None:
    connection = await AmqpConnection.open(rabbitmq.tls_url, name="tls")
    channel = await connection.channel()
    queue = (await channel.declare_queue(exclusive=True)).name
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    def hear(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            heard.put_nowait(bytes(delivery.body))

    await channel.consume(queue, hear, no_ack=True)
    bodies = [bytes([length % 251]) * length for length in (1, 16_383, 16_384, 60_000, 131_065, 3_000_000)] * 5
    for body in bodies:
        assert channel.publish("", queue, body)
    assert [await heard.get() for _ in bodies] == bodies
    await connection.close()


async def test_whose_certificate_is_taken(rabbitmq: Vhost, tmp_path: Path) -> None:
    url = rabbitmq.tls_url
    other = Authority(tmp_path, "other")
    with pytest.raises(AmqpError, match=r"the peer's certificate comes from a CA that is not in our tls.ca"):
        await AmqpConnection.open(url._replace(ca=other.file), name="x")
    with pytest.raises(AmqpError, match=r"certificate is not valid: .*IP address mismatch.*127\.0\.0\.1"):
        await AmqpConnection.open(url._replace(server_name=""), name="x")
    unseen = await AmqpConnection.open(url._replace(ca="", server_name="", verify=False), name="x")
    await unseen.close()
    context = ssl.create_default_context(cafile=f"{rabbitmq.broker.ca}")
    own = await AmqpConnection.open(url._replace(ca=""), name="x", tls=context)
    await own.close()


async def test_who_speaks_the_other_protocol(rabbitmq: Vhost) -> None:
    plain, tls = rabbitmq.url, rabbitmq.tls_url
    with pytest.raises(AmqpError, match="the peer does not speak TLS here"):
        await AmqpConnection.open(tls._replace(port=plain.port), name="x")
    with pytest.raises(AmqpError, match=r"no AMQP connection.*look whether a broker"):
        await AmqpConnection.open(plain._replace(port=tls.port), name="x", timeout_s=10)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for query in (f"ca={tmp_path / 'ca.pem'}", f"ca={tmp_path / 'absent'}"):
        with pytest.raises(TumplineError, match="is no usable PEM file"):
            AmqpUrl.parse(f"amqps://localhost/?{query}").tls_context()
