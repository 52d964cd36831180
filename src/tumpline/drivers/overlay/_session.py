"""What an attachment asks of the broker: the name, held by a queue, and whether older agents and routers are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tumpline.drivers.amqp import AmqpChannel, AmqpConnection, AmqpError, Delivery
from tumpline.errors import RefusedError
from tumpline.wire.packet_json import Generation

ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
RESOURCE_LOCKED: Final = 405
# What waits in the queue is lost when it is full, oldest first: packets that are late are of no use, and a member that
# does not read must not fill the broker. 32 MiB are a quarter of a second at 1 Gbit/s.
QUEUE_MESSAGES_MOST: Final = 1000
QUEUE_OCTETS_MOST: Final = 32 << 20
QUEUE_ARGUMENTS: Final = {
    "x-max-length": QUEUE_MESSAGES_MOST,
    "x-max-length-bytes": QUEUE_OCTETS_MOST,
    "x-overflow": "drop-head",
}


# As older agents are called where nobody thinks of something better, and the coordinator's own.
USUAL_NAMES: Final = (*(f"agent_{number}" for number in range(1, 7)), "agent_TT")


class NameTakenError(RefusedError):
    """An agent of that name is in this session already: stop it, or join under another name (--name)."""


def member_queue(name: str) -> str:
    """The queue whose holder holds the name."""
    return f"tumpline.member.{name}"


def older_queues(name: str) -> dict[str, Generation]:
    """Queues from which an older agent of that name reads packets or frames."""
    return {
        f"consumer: {name}.tun?rkey=toAgent.{name}.ip.tun.packet.raw": Generation.V1,
        f"consumer: {name}.serial?rkey=toAgent.{name}.802154.serial.packet.raw": Generation.V1,
        f"data.tun@{name}": Generation.V0,
        f"data.serial@{name}": Generation.V0,
    }


def older_router_queue(name: str) -> str:
    """The queue from which an older router reads what `name` sends."""
    return f"fromAgent.{name}.ip.tun.packet.raw@packet_router"


class SessionQueue:
    """Our queue, on a channel of its own, as long as the connection lasts."""

    def __init__(self, channel: AmqpChannel, exchange: str, name: str) -> None:
        self.channel = channel
        self._exchange = exchange
        self._queue = member_queue(name)

    @classmethod
    async def claim(cls, connection: AmqpConnection, exchange: str, name: str, *, is_first: bool) -> SessionQueue:
        """Hold the name. Raises: NameTakenError, at the first join; AmqpError."""
        try:
            return await cls._claim(connection, exchange, name)
        except NameTakenError as error:
            if is_first:
                raise
            # The broker may not have noticed yet that our connection before this one is gone: that passes.
            raise AmqpError(RESOURCE_LOCKED, str(error)) from error

    @classmethod
    async def _claim(cls, connection: AmqpConnection, exchange: str, name: str) -> SessionQueue:
        for queue in older_queues(name):
            if await consumers_of(connection, queue):
                raise NameTakenError(f"an older agent named {name} is in this session already; {_REMEDY}")
        channel = await connection.channel()
        await _find_exchange(connection, exchange)
        try:
            await channel.declare_queue(
                member_queue(name), exclusive=True, auto_delete=True, arguments=dict(QUEUE_ARGUMENTS)
            )
        except AmqpError as error:
            if error.code == RESOURCE_LOCKED:
                raise NameTakenError(f"an agent named {name} is in this session already; {_REMEDY}") from error
            raise
        return cls(channel, exchange, name)

    async def bind(self, routing_keys: Iterable[str]) -> None:
        """Receive these from now on."""
        for key in routing_keys:
            await self.channel.bind(self._queue, self._exchange, key)

    async def unbind(self, routing_keys: Iterable[str]) -> None:
        """Receive these no more."""
        for key in routing_keys:
            await self.channel.unbind(self._queue, self._exchange, key)

    async def consume(self, handler: Callable[[Sequence[Delivery]], None]) -> None:
        """Begin to receive. Nothing is acknowledged: a packet that is lost with a connection would come too late."""
        await self.channel.consume(self._queue, handler, no_ack=True, exclusive=True)


_REMEDY: Final = (
    "stop it, or join under another name (--name); of one that lost its network the broker knows within half a minute"
)


async def _find_exchange(connection: AmqpConnection, exchange: str) -> None:
    """It is not made where it is not: a name that was mistyped would be a session without anybody."""
    channel = await connection.channel()
    try:
        await channel.declare_exchange(exchange, "topic", passive=True)
    except AmqpError as error:
        if error.code != NOT_FOUND:
            raise
        text = f"the broker has no exchange {exchange} there; write --exchange amq.topic, or have a topic exchange made"
        raise AmqpError(NOT_FOUND, text, error.text) from error
    await channel.close()


async def consumers_of(connection: AmqpConnection, queue: str) -> int:
    """How many read from a queue of others; 0 if there is none, it is somebody's own, or we may not look."""
    # A refused declare ends its channel (AMQP 0-9-1 §1.4.2.6 via 404), so each question has one of its own.
    channel = await connection.channel()
    try:
        found = await channel.declare_queue(queue, passive=True)
    except AmqpError as error:
        if error.code in (ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED):
            return 0
        raise
    await channel.close()
    return int(found.consumers)


async def router_is_there(connection: AmqpConnection, name: str) -> bool:
    """Whether an older router would pass on what `name` sends."""
    return await consumers_of(connection, older_router_queue(name)) > 0


async def older_agents(connection: AmqpConnection, names: Iterable[str]) -> list[tuple[str, Generation]]:
    """Which of these are there, although they may say nothing: older agents tell only once who they are."""
    queues = [(name, *each) for name in names for each in older_queues(name).items()]
    return [(name, generation) for name, queue, generation in queues if await consumers_of(connection, queue)]
