"""The queues of a packet router: how they are made, found, and let go."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, NamedTuple

from tumpline.drivers.amqp import AmqpChannel, AmqpConnection, AmqpError
from tumpline.drivers.overlay._session import NOT_FOUND, QUEUE_MESSAGES_MOST, QUEUE_OCTETS_MOST, consumers_of
from tumpline.errors import RefusedError
from tumpline.machines.packet_router import STRANGERS_SHARE, packet_patterns

PRECONDITION_FAILED: Final = 406
_ATTEMPTS: Final = 5  # at a queue that goes with somebody else's last consumer while we are about to consume
# Sources that were heard of are bound to their share here; whoever was not is caught by the alternate exchange. The first
# is named in the second's arguments, so that both are there or none.
SOURCES: Final = "tumpline.router.sources"
STRANGERS: Final = "tumpline.router.strangers"
# An exchange that is deleted with its last binding needs one that stays, and under which nobody publishes.
_ANCHOR: Final = "tumpline.router.anchor"


class QueueKind(Enum):
    """Of the broker's."""

    CLASSIC = "classic"  # on one node of a cluster, gone with it
    QUORUM = "quorum"  # on several


class QueueOptions(NamedTuple):
    """The same for all routers of a session."""

    kind: QueueKind = QueueKind.CLASSIC
    messages_most: int = QUEUE_MESSAGES_MOST
    octets_most: int = QUEUE_OCTETS_MOST
    expires_s: float = 60.0  # of quorum queues that nobody uses any more; classic ones go with their last consumer

    def declaration(self) -> dict[str, Any]:
        """What `AmqpChannel.declare_queue` is to be told."""
        arguments: dict[str, Any] = {
            "x-single-active-consumer": True,
            "x-max-length": self.messages_most,
            "x-max-length-bytes": self.octets_most,
            "x-overflow": "drop-head",
        }
        if self.kind is QueueKind.CLASSIC:
            return {"auto_delete": True, "arguments": arguments}
        expiry = {"x-queue-type": "quorum", "x-expires": round(1000 * self.expires_s)}
        return {"durable": True, "arguments": arguments | expiry}


class ShareQueues:
    """Of one connection. `is_sharded`: sources are bound by name, each to its share."""

    def __init__(self, connection: AmqpConnection, exchange: str, options: QueueOptions, *, is_sharded: bool) -> None:
        self._connection = connection
        self._exchange = exchange
        self._options = options
        self._is_sharded = is_sharded

    async def open(self, share: str, patterns: Iterable[str]) -> AmqpChannel:
        """The queue is there and bound; the channel is for its consumer alone, so that a refusal ends nothing else.

        Raises: AmqpError; RefusedError: an older router is at work there."""
        if self._is_sharded:
            await self._make_exchanges()
        await self._declare(share)
        channel = await self._connection.channel()
        await self._bind(channel, share, patterns)
        if self._is_sharded and share == STRANGERS_SHARE:
            await channel.bind(share, STRANGERS, "")
            await channel.bind(share, SOURCES, _ANCHOR)
        return channel

    async def bind(self, share: str, patterns: Iterable[str]) -> None:
        """These sources belong to it. That of a share that nobody consumes at the moment is bound when somebody does."""
        channel = await self._connection.channel()
        try:
            await self._bind(channel, share, patterns)
        except AmqpError as error:
            if error.code != NOT_FOUND:
                raise
            return
        await channel.close()

    async def unbind(self, share: str, patterns: Iterable[str]) -> None:
        """They do not any more."""
        channel = await self._connection.channel()
        try:
            for pattern in patterns:
                await channel.unbind(share, self._source, pattern)
        except AmqpError as error:
            if error.code != NOT_FOUND:
                raise
            return
        await channel.close()

    async def remove(self, share: str) -> None:
        """Nobody uses it any more, it seems: a queue that does not go with its last consumer is deleted."""
        if self._options.kind is QueueKind.CLASSIC:
            return
        # RabbitMQ has no if-unused for quorum queues. A router that subscribes in between notices, and makes it anew.
        if not await consumers_of(self._connection, share):
            channel = await self._connection.channel()
            await channel.delete_queue(share)
            await channel.close()

    @property
    def _source(self) -> str:
        return SOURCES if self._is_sharded else self._exchange

    async def _bind(self, channel: AmqpChannel, share: str, patterns: Iterable[str]) -> None:
        for pattern in patterns:
            await channel.bind(share, self._source, pattern)

    async def _make_exchanges(self) -> None:
        channel = await self._connection.channel()
        await channel.declare_exchange(STRANGERS, "fanout", auto_delete=True)
        arguments = {"alternate-exchange": STRANGERS}
        await channel.declare_exchange(SOURCES, "topic", auto_delete=True, arguments=arguments)
        for pattern in packet_patterns("*"):
            await channel.bind_exchange(SOURCES, self._exchange, pattern)
        await channel.close()

    async def _declare(self, share: str) -> None:
        channel = await self._connection.channel()
        try:
            await channel.declare_queue(share, **self._options.declaration())
        except AmqpError as error:
            if error.code != PRECONDITION_FAILED:
                raise
            await self._replace(share)
            return
        await channel.close()

    async def _replace(self, share: str) -> None:
        """One with other options is there: a left-over of the older router, which deletes none of its queues."""
        if await consumers_of(self._connection, share):
            raise RefusedError(
                f"queue {share} is in use with other options: end the older router that works on this session, "
                "or give all routers the same --queue-type, --queue-length and --queue-expires"
            )
        channel = await self._connection.channel()
        await channel.delete_queue(share, if_unused=True)
        await channel.declare_queue(share, **self._options.declaration())
        await channel.close()


async def consume(queues: ShareQueues, share: str, patterns: Iterable[str], handler: Any) -> tuple[AmqpChannel, str]:
    """The channel and the consumer's tag. Raises: AmqpError, RefusedError."""
    for attempt in range(_ATTEMPTS):
        channel = await queues.open(share, patterns)
        try:
            return channel, await channel.consume(share, handler, no_ack=True)
        except AmqpError as error:
            if error.code != NOT_FOUND or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")
