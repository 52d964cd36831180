"""Asking an agent of a session to open its interface, and waiting until it says that it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tumpline.drivers.amqp import AmqpChannel, AmqpConnection, AmqpUrl, Delivery
from tumpline.machines.overlay.starting import Starting
from tumpline.node.overlay.starting import JSON
from tumpline.wire.agent_json import Tun


async def ask_to_start(url: AmqpUrl, exchange: str, asked: Tun) -> Tun | None:
    """What the agent says that it has opened; None: it said nothing. Raises: AmqpError."""
    connection = await AmqpConnection.open(url, name=f"tumpline bootstrap of {asked.name}")
    try:
        return await _asked(await connection.channel(), exchange, Starting(asked))
    finally:
        await connection.close()


async def _asked(channel: AmqpChannel, exchange: str, starting: Starting) -> Tun | None:
    came = asyncio.Event()

    def heard(deliveries: Sequence[Delivery]) -> None:
        for each in deliveries:
            starting.heard(each.routing_key, each.body)
        came.set()

    queue = (await channel.declare_queue(exclusive=True, auto_delete=True)).name
    for key in starting.bindings():
        await channel.bind(queue, exchange, key)
    await channel.consume(queue, heard, no_ack=True)
    loop = asyncio.get_running_loop()
    starting.begin(loop.time())
    while (due := starting.next_timeout()) is not None:
        for say in starting.outputs():
            channel.publish(exchange, say.routing_key, say.body, JSON)
        try:
            await asyncio.wait_for(came.wait(), max(0.0, due - loop.time()))
        except TimeoutError:
            starting.handle_timeout(loop.time())
        came.clear()
    return starting.started
