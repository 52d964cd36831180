"""Our agents among older ones, whom others' clients play: what they need of us, and what they do to us."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import pytest

from tumpline.drivers.amqp import AmqpChannel, AmqpConnection, Delivery
from tumpline.drivers.overlay.router import RouterAttachment
from tumpline.node.overlay.router import RouterWish, router_settings_of
from tumpline.testing.memory_agents import meet, memory_agent
from tumpline.testing.older_members import OlderMember, Plan
from tumpline.testing.pings import decode_echo
from tumpline.testing.rabbitmq import Vhost

PERSISTENT = 2  # AMQP 0-9-1 basic.delivery-mode


@pytest.mark.parametrize("generation", [0, 1])
async def test_an_older_agent_that_says_nothing_is_found(rabbitmq: Vhost, generation: int) -> None:
    """It said who it is before we came, and older agents say that once."""
    with ExitStack() as held:
        older = OlderMember(rabbitmq.uri, Plan("agent_5", 5, generation))
        await asyncio.to_thread(held.enter_context, older)
        async with memory_agent(rabbitmq.uri, "alice", 1) as alice:
            await alice.until(lambda: "agent_5" in alice.members)
            await alice.ping("bbbb::5", 1)
            await alice.ping("10.2.0.5", 2)
        await asyncio.to_thread(held.close)


class Listener:
    """All that is published under a key, as it is on the wire."""

    def __init__(self, uri: str, key: str) -> None:
        pika: Any = import_module("pika")  # it has no types
        self._connection = pika.BlockingConnection(pika.URLParameters(uri))
        self._channel = self._connection.channel()
        self._queue = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.queue_bind(self._queue, "amq.topic", key)

    def next(self) -> tuple[str, Any, bytes]:
        """Routing key, properties, body."""
        for method, properties, body in self._channel.consume(self._queue, auto_ack=True, inactivity_timeout=20):
            assert method is not None, "nothing was published"
            self._channel.cancel()
            return str(method.routing_key), properties, bytes(body)
        raise AssertionError

    def close(self) -> None:
        self._connection.close()


@pytest.mark.parametrize("generation", [0, 1])
async def test_packets_for_older_agents_are_json_that_says_so_and_are_not_kept_on_disks(
    rabbitmq: Vhost, generation: int
) -> None:
    key = ("data.tun.toAgent.agent_5", "toAgent.agent_5.ip.tun.packet.raw")[generation]
    listener = await asyncio.to_thread(Listener, rabbitmq.uri, key)
    with ExitStack() as held:
        older = OlderMember(rabbitmq.uri, Plan("agent_5", 5, generation))
        await asyncio.to_thread(held.enter_context, older)
        async with memory_agent(rabbitmq.uri, "alice", 1) as alice:
            await alice.until(lambda: "agent_5" in alice.members)
            await alice.ping("bbbb::5", 1)
        _, properties, body = await asyncio.to_thread(listener.next)
        await asyncio.to_thread(held.close)
    await asyncio.to_thread(listener.close)
    assert properties.content_type == "application/json"  # they decode nothing else
    assert properties.delivery_mode != PERSISTENT
    assert json.dumps(json.loads(body), sort_keys=True).encode().replace(b" ", b"") == body.replace(b" ", b"")
    assert older.undecodable == 0


async def test_a_body_without_a_content_type_is_read_all_the_same(rabbitmq: Vhost) -> None:
    """There, such a message ended the process that read it."""

    def say(body: dict[str, Any]) -> None:
        pika: Any = import_module("pika")
        connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.uri))
        key = "toAgent.alice.ip.tun.packet.raw"
        connection.channel().basic_publish("amq.topic", key, json.dumps(body).encode())
        connection.close()

    async with memory_agent(rabbitmq.uri, "alice", 1) as alice:
        packet = bytes((0x60, 0, 0, 0, 0, 0, 59, 64, *bytes(15), 1, *bytes.fromhex("bbbb"), *bytes(13), 1))
        for stamp in (1, 1.5, "1.5", None):
            packet = packet[:23] + bytes((packet[23] + 1,)) + packet[24:]  # each a packet of its own
            await asyncio.to_thread(say, {"data": list(packet), "interface_name": "tun0", "timestamp": stamp})
        await asyncio.to_thread(
            say, {"data": list(packet[:23] + b"\x63" + packet[24:])}
        )  # the least that says something
        await alice.until(lambda: alice.foreign == 5)


async def test_a_network_behind_an_agent_is_told_and_reached(rabbitmq: Vhost) -> None:
    """By coordinators it is looked for where `started` says, by members where it was announced."""
    listener = await asyncio.to_thread(Listener, rabbitmq.uri, "fromAgent.coap_client.ip.tun.started")
    behind = {"re_route_packets_if": "eth1", "re_route_packets_prefix": "cccc", "re_route_packets_host": "2"}
    async with (
        memory_agent(rabbitmq.uri, "coap_client", 1, **behind) as client,
        memory_agent(rabbitmq.uri, "bob", 2) as bob,
    ):
        _, _, body = await asyncio.to_thread(listener.next)
        listener.close()
        assert behind.items() <= json.loads(body).items()
        await meet(client, bob)
        bob.ask("cccc::7", 1)
        await client.until(lambda: client.foreign == 1)
        assert bob.agent.snapshot()["member"]["counters"]["flooded"] == 0


@pytest.mark.parametrize("generation", [0, 1])
async def test_a_network_behind_an_older_agent_is_reached(rabbitmq: Vhost, generation: int) -> None:
    async with memory_agent(rabbitmq.uri, "alice", 1) as alice:
        with ExitStack() as held:
            older = OlderMember(rabbitmq.uri, Plan("coap_server", 5, generation))
            await asyncio.to_thread(held.enter_context, older)
            key, started = older.plan.started()
            await asyncio.to_thread(older.publish, key, {**started, "re_route_packets_prefix": "aaaa"})
            await alice.until(lambda: any("aaaa::" in claim for claim in alice.members["coap_server"]["claims"]))
            alice.ask("aaaa::7", 1)
            echo = decode_echo((await asyncio.to_thread(older.next_packet)).packet)
            assert echo is not None
            assert str(echo.destination) == "aaaa::7"
            await asyncio.to_thread(held.close)


def of_queues(vhost: Vhost, item: str) -> str:
    """What the broker says of all queues of a session."""
    return vhost.broker.evaluate(
        f'[rabbit_amqqueue:info(Q, [{item}]) || Q <- rabbit_amqqueue:list(<<"{vhost.name}">>)]'
    )


async def test_queues_are_bounded_and_hold_nothing_that_was_delivered(rabbitmq: Vhost) -> None:
    """There, queues had no bound, and what was delivered stayed unacknowledged for ever."""
    async with memory_agent(rabbitmq.uri, "alice", 1) as alice, memory_agent(rabbitmq.uri, "bob", 2) as bob:
        await meet(alice, bob)
        for sequence in range(50):
            await alice.ping("bbbb::2", sequence)
        arguments = await asyncio.to_thread(of_queues, rabbitmq, "arguments")
        assert arguments.count("x-max-length-bytes") == arguments.count("drop-head") == 2
        assert await asyncio.to_thread(of_queues, rabbitmq, "messages_unacknowledged") == (
            "[[{messages_unacknowledged,0}],[{messages_unacknowledged,0}]]"
        )
        assert "auto_delete,true" in await asyncio.to_thread(of_queues, rabbitmq, "auto_delete")


class AllKeys:
    """Routing keys of all that is published, and how often."""

    def __init__(self, channel: AmqpChannel) -> None:
        self.counts: Counter[str] = Counter()
        self._channel = channel

    async def start(self) -> None:
        queue = (await self._channel.declare_queue(exclusive=True)).name
        await self._channel.bind(queue, "amq.topic", "#")
        await self._channel.consume(queue, self._received, no_ack=True)

    def _received(self, deliveries: Sequence[Delivery]) -> None:
        self.counts.update(each.routing_key for each in deliveries)


async def test_nothing_is_published_but_packets_and_who_is_there(rabbitmq: Vhost) -> None:
    """There, agents and router published each packet once more as records of a log."""
    connection = await AmqpConnection.open(rabbitmq.url, name="listener")
    keys = AllKeys(await connection.channel())
    await keys.start()
    router = RouterAttachment(router_settings_of(RouterWish(url=rabbitmq.uri)), lambda _: None)
    await router.start()
    async with (
        memory_agent(rabbitmq.uri, "alice", 1) as alice,
        memory_agent(rabbitmq.uri, "bob", 2, format="v1") as bob,
    ):
        await meet(alice, bob)
        for sequence in range(50):
            await alice.ping("bbbb::2", sequence)
    await router.stop()
    await connection.close()
    packets = {key: count for key, count in keys.counts.items() if key.endswith("packet.raw")}
    assert packets["fromAgent.alice.ip.tun.packet.raw"] == packets["toAgent.bob.ip.tun.packet.raw"] == 50
    assert {key.partition(".")[0] for key in keys.counts} <= {
        "tumpline",
        "testingtool",
        "control",
        "fromAgent",
        "toAgent",
    }
    assert not [key for key in keys.counts if key.startswith("log.")]
    assert sum(keys.counts.values()) - sum(packets.values()) < 50  # hellos
