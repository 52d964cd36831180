"""What the checks of brokers share: a broker for each check, ears, and refusals as codes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from tumpline.drivers.amqp import AmqpChannel, AmqpConnection, AmqpError, AmqpUrl, Delivery, ReturnedMessage

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


class Returns:
    """What comes back to a channel."""

    def __init__(self) -> None:
        self.returned: list[ReturnedMessage] = []
        self.came = asyncio.Event()

    def __call__(self, message: ReturnedMessage) -> None:
        self.returned.append(message._replace(body=bytes(message.body)))
        self.came.set()
