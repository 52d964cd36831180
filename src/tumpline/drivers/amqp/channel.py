"""A channel of a connection to a broker: queues, consumers, publishing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from tumpline.drivers.amqp.errors import AmqpError, over, refusal
from tumpline.errors import LocalProtocolError
from tumpline.machines.amqp_client import Answered, Confirmed, Delivery, Oversized, ReturnedMessage
from tumpline.machines.amqp_client.outbox import Body
from tumpline.wire.amqp import Method, Properties
from tumpline.wire.amqp import methods as m

DeliveryHandler = Callable[[Sequence[Delivery]], None]
NO_ARGUMENTS: Final[dict[str, Any]] = {}


class DeclaredQueue(NamedTuple):
    """How it stood when it was declared."""

    name: str
    messages: int
    consumers: int


class Wire(Protocol):
    """What a channel needs of its connection."""

    def ask(self, channel: int, method: Method) -> None:
        """Raises: LocalProtocolError, ValueError."""

    def tell(self, channel: int, method: Method) -> None:
        """Raises: LocalProtocolError."""

    def publish(
        self, channel: int, exchange: str, routing_key: str, body: Body, properties: Properties | None, mandatory: bool
    ) -> int | None:
        """Its number (0 without confirms), None where it was dropped."""

    async def drained(self) -> None:
        """Wait until what is to be written has gone. Raises: AmqpError."""


class AmqpChannel:
    """Made by `AmqpConnection.channel`. Methods that wait raise AmqpError; after a refusal the channel is closed."""

    def __init__(self, wire: Wire, number: int, where: object) -> None:
        self.number = number
        self.on_return: Callable[[ReturnedMessage], None] | None = None  # its body dies with the call
        self.on_closed: Callable[[AmqpError], None] | None = None  # by the broker, or with the connection
        self.on_cancelled: Callable[[str], None] | None = None  # a consumer, by the broker: its queue is gone
        self.oversized = 0  # messages that were too long for us
        self._wire = wire
        self._where = where
        self._waiting: deque[tuple[str, asyncio.Future[Answered]]] = deque()
        self._handlers: dict[str, DeliveryHandler] = {}
        self._no_ack: set[str] = set()
        self._last_tag = 0
        self._ended: AmqpError | None = None
        self._confirms = False
        self._unconfirmed: dict[int, asyncio.Future[bool]] = {}

    @property
    def is_open(self) -> bool:
        """Whether something can be asked here."""
        return self._ended is None

    # ---- exchanges and queues ----------------------------------------------------------------------------------------

    async def declare_exchange(
        self,
        name: str,
        kind: str = "topic",
        *,
        durable: bool = False,
        auto_delete: bool = False,
        passive: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Make it, or see that it is there. `passive`: 404 where it is not."""
        flags = {"passive": passive, "durable": durable, "auto_delete": auto_delete}
        method = m.ExchangeDeclare(0, name, kind, **flags, arguments=arguments or NO_ARGUMENTS)
        await self._ask(f"exchange {name}", method)

    async def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """No error where it is not there."""
        await self._ask(f"exchange {name}", m.ExchangeDelete(0, name, if_unused))

    async def bind_exchange(self, destination: str, source: str, routing_key: str) -> None:
        """What fits at `source` goes to the exchange `destination`, too: an extension of RabbitMQ's. Idempotent."""
        method = m.ExchangeBind(0, destination, source, routing_key)
        await self._ask(f"exchange {destination} to exchange {source}", method)

    async def declare_queue(
        self,
        name: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        passive: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> DeclaredQueue:
        """Make it, or see that it is there; without a name the broker gives one."""
        flags = {"passive": passive, "durable": durable, "exclusive": exclusive, "auto_delete": auto_delete}
        method = m.QueueDeclare(0, name, **flags, arguments=arguments or NO_ARGUMENTS)
        answer = await self._ask(f"queue {name}", method)
        return DeclaredQueue(*answer.method)

    async def delete_queue(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """How many messages were in it; no error where it is not there."""
        return int((await self._ask(f"queue {name}", m.QueueDelete(0, name, if_unused, if_empty))).method[0])

    async def purge(self, queue: str) -> int:
        """How many messages were in it."""
        return int((await self._ask(f"queue {queue}", m.QueuePurge(0, queue))).method[0])

    async def bind(self, queue: str, exchange: str, routing_key: str, arguments: dict[str, Any] | None = None) -> None:
        """What is published to the exchange with a fitting key goes to the queue. Idempotent."""
        method = m.QueueBind(0, queue, exchange, routing_key, arguments=arguments or NO_ARGUMENTS)
        await self._ask(f"queue {queue} to exchange {exchange}", method)

    async def unbind(
        self, queue: str, exchange: str, routing_key: str, arguments: dict[str, Any] | None = None
    ) -> None:
        """Idempotent."""
        method = m.QueueUnbind(0, queue, exchange, routing_key, arguments or NO_ARGUMENTS)
        await self._ask(f"queue {queue} from exchange {exchange}", method)

    # ---- receiving ---------------------------------------------------------------------------------------------------

    async def consume(
        self,
        queue: str,
        handler: DeliveryHandler,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> str:
        """The consumer's tag. `handler` is called with all that one read brought; bodies die when it returns."""
        self._last_tag += 1
        tag = f"{self._last_tag}"  # ours: messages may come right behind the answer
        self._handlers[tag] = handler
        if no_ack:
            self._no_ack.add(tag)
        flags = {"no_ack": no_ack, "exclusive": exclusive}
        method = m.BasicConsume(0, queue, tag, **flags, arguments=arguments or NO_ARGUMENTS)
        try:
            await self._ask(f"queue {queue}", method)
        except AmqpError:
            self._forget(tag)
            raise
        return tag

    async def cancel(self, tag: str) -> None:
        """Nothing is handed to it any more when this returns."""
        await self._ask(f"consumer {tag}", m.BasicCancel(tag))
        self._forget(tag)

    async def qos(self, prefetch: int, *, of_channel: bool = False) -> None:
        """So many messages may wait for our acknowledgement: of each consumer, or of all here together."""
        await self._ask("qos", m.BasicQos(0, prefetch, of_channel))

    async def get(self, queue: str, *, no_ack: bool = False) -> Delivery | None:
        """One message, None where there is none; its body is bytes. 311 for one that is too long for us."""
        answer = await self._ask(f"queue {queue}", m.BasicGet(0, queue, no_ack))
        if answer.delivery is None and isinstance(answer.method, m.BasicGetOk):
            if not no_ack:
                self.nack(answer.method.delivery_tag, requeue=False)
            raise AmqpError(311, f"{self._where}: queue {queue}: a message was longer than we take; it was dropped")
        return answer.delivery

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """It was dealt with. On a channel that is closed: nothing."""
        self._tell(m.BasicAck(tag, multiple))

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """It was not. On a channel that is closed: nothing."""
        self._tell(m.BasicNack(tag, multiple, requeue))

    # ---- publishing --------------------------------------------------------------------------------------------------

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: Body,
        properties: Properties | None = None,
        *,
        mandatory: bool = False,
    ) -> bool:
        """Send a message with the end of this turn of the loop. False: it was dropped; the connection is over, or so much
        waits to be written that memory would run full (look at `is_congested` before that).

        Properties that are used again should be the same object: what they become is remembered."""
        return self._wire.publish(self.number, exchange, routing_key, body, properties, mandatory) is not None

    async def publish_confirmed(
        self,
        exchange: str,
        routing_key: str,
        body: Body,
        properties: Properties | None = None,
        *,
        mandatory: bool = False,
    ) -> None:
        """The same, until the broker has it; from the first one on it confirms all that is published on this channel.

        Raises: AmqpError. A message that is returned is confirmed behind `on_return`."""
        if not self._confirms:
            self._confirms = True
            await self._ask("confirms", m.ConfirmSelect())
        number = self._wire.publish(self.number, exchange, routing_key, body, properties, mandatory)
        if number is None:
            await self._wire.drained()
            number = self._wire.publish(self.number, exchange, routing_key, body, properties, mandatory)
        if number is None:
            raise AmqpError(
                0, f"{self._where}: a message for {routing_key} was not sent: the channel is closed, or full"
            )
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._unconfirmed[number] = future
        try:
            if not await future:
                raise AmqpError(0, f"{self._where}: the broker did not take a message for {routing_key}; send it again")
        finally:
            self._unconfirmed.pop(number, None)

    async def close(self) -> None:
        """Idempotent."""
        if self._ended is not None:
            return
        with suppress(AmqpError):  # the broker closed it, or the connection ended, in this very moment
            await self._ask("close", m.ChannelClose(200, "bye"))
        self.on_closed = None  # nobody is told of what they did
        self.end(over(self._where, "the channel was closed here"))

    # ---- asking ------------------------------------------------------------------------------------------------------

    async def opened(self) -> None:
        """Wait for the answer to what the connection has asked already."""
        await self._answer_to("channel")

    async def _ask(self, what: str, method: Method) -> Answered:
        self._check()
        try:
            self._wire.ask(self.number, method)
        except (LocalProtocolError, ValueError) as error:
            raise AmqpError(0, f"{self._where}: {what}: {error}") from error
        return await self._answer_to(what)

    async def _answer_to(self, what: str) -> Answered:
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append((what, future))
        return await future

    def _tell(self, method: Method) -> None:
        if self._ended is None:
            self._wire.tell(self.number, method)

    def _check(self) -> None:
        if self._ended is not None:
            raise AmqpError(self._ended.code, str(self._ended), self._ended.text)

    def _forget(self, tag: str) -> None:
        self._handlers.pop(tag, None)
        self._no_ack.discard(tag)

    # ---- told by the connection --------------------------------------------------------------------------------------

    def answered(self, event: Answered) -> None:
        """The oldest request has its answer."""
        _, future = self._waiting.popleft()
        if not future.done():  # nobody may wait for it any more
            got = event.delivery
            kept = event if got is None else event._replace(delivery=got._replace(body=bytes(got.body)))
            future.set_result(kept)

    def delivered(self, tag: str, deliveries: list[Delivery]) -> None:
        """For one consumer."""
        handler = self._handlers.get(tag)
        if handler is not None:  # it may just have been cancelled
            handler(deliveries)

    def passed_over(self, event: Oversized) -> None:
        """Too long for us: nobody gets it again."""
        self.oversized += 1
        if event.consumer_tag not in self._no_ack:
            self.nack(event.delivery_tag, requeue=False)

    def confirmed(self, event: Confirmed) -> None:
        """One message, or all up to it."""
        if not event.multiple:
            found = [event.number]
        else:
            found = [number for number in self._unconfirmed if number <= event.number]
        for number in found:
            future = self._unconfirmed.pop(number, None)
            if future is not None and not future.done():
                future.set_result(event.is_taken)

    def cancelled(self, tag: str) -> None:
        """A consumer, by the broker."""
        self._forget(tag)
        if self.on_cancelled is not None:
            self.on_cancelled(tag)

    def refused(self, code: int, text: str) -> None:
        """The broker closed the channel, for the sake of the oldest request or of something that nobody waited for."""
        what = self._waiting[0][0] if self._waiting else "channel"
        self.end(refusal(self._where, what, code, text))

    def end(self, error: AmqpError) -> None:
        """It is over: all who wait are told."""
        if self._ended is not None:
            return
        self._ended = error
        waiting: list[asyncio.Future[Any]] = [future for _, future in self._waiting]
        waiting += self._unconfirmed.values()
        for future in waiting:
            if not future.done():
                future.set_exception(AmqpError(error.code, str(error), error.text))
        self._waiting.clear()
        self._unconfirmed.clear()
        self._handlers.clear()
        if self.on_closed is not None:
            self.on_closed(error)
