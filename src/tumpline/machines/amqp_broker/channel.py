"""One channel of a connection to a broker: who consumes what, what waits for an acknowledgement, what is being published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from tumpline.errors import MalformedError
from tumpline.machines.amqp_broker.errors import Fault, Reply
from tumpline.machines.amqp_broker.exchanges import ExchangeOptions, Kind
from tumpline.machines.amqp_broker.queue import Entry, Message, Queue, QueueOptions
from tumpline.machines.amqp_broker.virtual_host import VirtualHost
from tumpline.wire.amqp import decode_content_header_untrusted
from tumpline.wire.amqp import methods as m

CONSUMERS_MOST: Final = 1024  # of one channel
UNACKED_MOST: Final = 65_536  # at the bound it is given no more, whatever it asked for
MESSAGE_OCTETS_MOST: Final = 16 << 20  # a super-packet has 64 KiB; bundles go in parts


class Wire(Protocol):
    """What a channel needs of its connection."""

    virtual_host: VirtualHost

    @property
    def has_room(self) -> bool:
        """Whether what was written before has gone, by and large."""

    def send(self, channel: int, method: m.Method) -> None:
        """Write a method."""

    def send_content(self, channel: int, method: m.Method, message: Message) -> None:
        """Write a method with its message."""

    def new_name(self, prefix: str) -> str:
        """A name that nobody has."""


class _Consumer:
    """One `basic.consume`."""

    def __init__(self, channel: Channel, tag: str, queue: Queue, no_ack: bool) -> None:
        self.tag = tag
        self.queue = queue
        self._channel = channel
        self._no_ack = no_ack
        self.is_exclusive = False
        self.unacked = 0

    @property
    def is_ready(self) -> bool:
        """See `queue.Consumer`."""
        return self._channel.may_take(self, needs_ack=not self._no_ack)

    def take(self, queue: Queue, entry: Entry) -> None:
        """See `queue.Consumer`."""
        self._channel.deliver(self, queue, entry, needs_ack=not self._no_ack)

    def cancelled(self) -> None:
        """See `queue.Consumer`."""
        self._channel.consumer_cancelled(self)


class _Unacked(NamedTuple):
    queue: Queue
    entry: Entry
    consumer: _Consumer | None  # None: it was got


class _Publishing:
    """A message whose header or body is still to come."""

    __slots__ = ("header", "left", "method", "octets", "parts")

    def __init__(self, method: m.BasicPublish) -> None:
        self.method = method
        self.header = b""
        self.octets = -1
        self.left = -1
        self.parts: list[bytes] = []


class Channel:
    """Handlers raise Fault: told to the client by the connection."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.number = number
        self.is_closing = False
        self._wire = wire
        self._consumers: dict[str, _Consumer] = {}
        self._unacked: dict[int, _Unacked] = {}  # by delivery tag, in order
        self._last_tag = 0
        self._prefetch_each = 0  # 0: any number
        self._prefetch_all = 0
        self._is_active = True
        self._confirms = False
        self._published = 0
        self._publishing: _Publishing | None = None
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            m.ChannelFlow: self._flow,
            m.ExchangeDeclare: self._exchange_declare,
            m.ExchangeDelete: self._exchange_delete,
            m.ExchangeBind: self._exchange_bind,
            m.QueueDeclare: self._queue_declare,
            m.QueueBind: self._queue_bind,
            m.QueueUnbind: self._queue_unbind,
            m.QueuePurge: self._queue_purge,
            m.QueueDelete: self._queue_delete,
            m.BasicQos: self._qos,
            m.BasicConsume: self._consume,
            m.BasicCancel: self._cancel,
            m.BasicGet: self._get,
            m.BasicAck: self._ack,
            m.BasicNack: self._nack,
            m.BasicReject: self._reject,
            m.BasicRecover: self._recover,
            m.BasicPublish: self._publish,
            m.ConfirmSelect: self._confirm_select,
            m.BasicCancelOk: self._ignore,
            m.ChannelFlowOk: self._ignore,
        }

    # ---- what comes --------------------------------------------------------------------------------------------------

    def method(self, method: m.Method, now: float) -> None:
        """Raises: Fault."""
        if self._publishing is not None:
            raise Fault(Reply.UNEXPECTED_FRAME, "a method where content was to follow")
        handler = self._handlers.get(type(method))
        if handler is None:
            raise Fault(Reply.NOT_IMPLEMENTED, f"{type(method).__name__} is not for this broker")
        handler(method, now)

    def header(self, payload: bytes, now: float) -> None:
        """A content header. Raises: Fault."""
        publishing = self._publishing
        if publishing is None or publishing.header:
            raise Fault(Reply.UNEXPECTED_FRAME, "a content header where none was to come")
        try:
            publishing.octets, _ = decode_content_header_untrusted(payload)
        except MalformedError as error:
            raise Fault(Reply.SYNTAX_ERROR, str(error)) from error
        if publishing.octets > MESSAGE_OCTETS_MOST:
            raise Fault(Reply.RESOURCE_ERROR, f"a message of {publishing.octets} octets: {MESSAGE_OCTETS_MOST} at most")
        publishing.header, publishing.left = payload, publishing.octets
        self._end_of_publishing(publishing, now)

    def body(self, payload: memoryview, now: float) -> None:
        """A part of a body. Raises: Fault."""
        publishing = self._publishing
        if publishing is None or not publishing.header or len(payload) > publishing.left:
            raise Fault(Reply.UNEXPECTED_FRAME, "a body where none was to come")
        publishing.parts.append(bytes(payload))
        publishing.left -= len(payload)
        self._end_of_publishing(publishing, now)

    def close(self, now: float) -> None:
        """What was not acknowledged goes back."""
        self.is_closing = True
        consumers = list(self._consumers.values())
        self._consumers.clear()
        for consumer in consumers:
            consumer.queue.consumers.remove(consumer)
        self._give_back(list(self._unacked), now)
        for consumer in consumers:
            self._wire.virtual_host.consumer_left(consumer.queue, now)

    # ---- publishing --------------------------------------------------------------------------------------------------

    def _publish(self, method: m.BasicPublish, _now: float) -> None:
        if method.immediate:
            raise Fault(Reply.NOT_IMPLEMENTED, "immediate=true")
        self._publishing = _Publishing(method)

    def _end_of_publishing(self, publishing: _Publishing, now: float) -> None:
        if publishing.left:
            return
        self._publishing = None
        method = publishing.method
        body = publishing.parts[0] if len(publishing.parts) == 1 else b"".join(publishing.parts)
        message = Message(method.exchange, method.routing_key, publishing.header, body)
        queues = self._wire.virtual_host.route(message)
        if not queues and method.mandatory:
            returned = m.BasicReturn(Reply.NO_ROUTE, "NO_ROUTE", method.exchange, method.routing_key)
            self._wire.send_content(self.number, returned, message)
        for queue in queues:
            queue.put(message, now)
        for queue in queues:
            queue.serve(now)
        if self._confirms:
            self._published += 1
            self._wire.send(self.number, m.BasicAck(self._published))

    def _confirm_select(self, method: m.ConfirmSelect, _now: float) -> None:
        self._confirms = True
        self._answer(method, m.ConfirmSelectOk())

    # ---- consuming ---------------------------------------------------------------------------------------------------

    def may_take(self, consumer: _Consumer, *, needs_ack: bool) -> bool:
        """Whether one more may be given to it."""
        if not self._is_active or self.is_closing or not self._wire.has_room:
            return False
        if not needs_ack:
            return True
        all_most = self._prefetch_all or UNACKED_MOST
        return len(self._unacked) < all_most and (not self._prefetch_each or consumer.unacked < self._prefetch_each)

    def deliver(self, consumer: _Consumer, queue: Queue, entry: Entry, *, needs_ack: bool) -> None:
        """One message for it."""
        tag = self._note(queue, entry, consumer) if needs_ack else self._next_tag()
        message = entry.message
        method = m.BasicDeliver(consumer.tag, tag, entry.redelivered, message.exchange, message.routing_key)
        self._wire.send_content(self.number, method, message)
        if not needs_ack:
            queue.release(entry)

    def consumer_cancelled(self, consumer: _Consumer) -> None:
        """Its queue is gone (RabbitMQ's consumer_cancel_notify)."""
        if self._consumers.pop(consumer.tag, None) is not None:
            self._wire.send(self.number, m.BasicCancel(consumer.tag, no_wait=True))

    def serve(self, now: float) -> None:
        """There is room again for what waits."""
        for consumer in list(self._consumers.values()):
            consumer.queue.serve(now)

    def _consume(self, method: m.BasicConsume, now: float) -> None:
        queue = self._wire.virtual_host.queue(method.queue, self._wire)
        tag = method.consumer_tag or self._wire.new_name("amq.ctag-")
        if tag in self._consumers:
            raise Fault(Reply.NOT_ALLOWED, f"consumer tag '{tag}' is used")
        if len(self._consumers) >= CONSUMERS_MOST:
            raise Fault(Reply.RESOURCE_ERROR, f"{CONSUMERS_MOST} consumers on this channel")
        is_taken = any(isinstance(each, _Consumer) and each.is_exclusive for each in queue.consumers)
        if is_taken or (method.exclusive and queue.consumers):
            raise Fault(Reply.ACCESS_REFUSED, f"queue '{queue.name}' in exclusive use")
        consumer = self._consumers[tag] = _Consumer(self, tag, queue, method.no_ack)
        consumer.is_exclusive = method.exclusive
        queue.consumers.append(consumer)
        self._answer(method, m.BasicConsumeOk(tag))
        queue.serve(now)

    def _cancel(self, method: m.BasicCancel, now: float) -> None:
        consumer = self._consumers.pop(method.consumer_tag, None)
        if consumer is not None:
            consumer.queue.consumers.remove(consumer)
        self._answer(method, m.BasicCancelOk(method.consumer_tag))
        if consumer is not None:
            self._wire.virtual_host.consumer_left(consumer.queue, now)
            consumer.queue.serve(now)  # where only one is served at a time, it is the next one's turn

    def _get(self, method: m.BasicGet, now: float) -> None:
        queue = self._wire.virtual_host.queue(method.queue, self._wire)
        entry = queue.pop(now)
        if entry is None:
            self._wire.send(self.number, m.BasicGetEmpty())
            return
        tag = self._next_tag() if method.no_ack else self._note(queue, entry, None)
        message = entry.message
        got = m.BasicGetOk(tag, entry.redelivered, message.exchange, message.routing_key, len(queue))
        self._wire.send_content(self.number, got, message)
        if method.no_ack:
            queue.release(entry)

    def _qos(self, method: m.BasicQos, now: float) -> None:
        if method.prefetch_octets:
            raise Fault(Reply.NOT_IMPLEMENTED, "prefetch by octets")
        if method.of_channel:  # RabbitMQ: of the channel is of all its consumers together
            self._prefetch_all = method.prefetch_count
        else:
            self._prefetch_each = method.prefetch_count
        self._wire.send(self.number, m.BasicQosOk())
        self.serve(now)

    def _flow(self, method: m.ChannelFlow, now: float) -> None:
        self._is_active = method.active
        self._wire.send(self.number, m.ChannelFlowOk(method.active))
        self.serve(now)

    # ---- acknowledging -----------------------------------------------------------------------------------------------

    def _next_tag(self) -> int:
        self._last_tag += 1
        return self._last_tag

    def _note(self, queue: Queue, entry: Entry, consumer: _Consumer | None) -> int:
        tag = self._next_tag()
        self._unacked[tag] = _Unacked(queue, entry, consumer)
        if consumer is not None:
            consumer.unacked += 1
        return tag

    def _ack(self, method: m.BasicAck, now: float) -> None:
        for tag in self._tags(method.delivery_tag, method.multiple):
            unacked = self._settle(tag)
            unacked.queue.release(unacked.entry)
        self.serve(now)

    def _nack(self, method: m.BasicNack, now: float) -> None:
        tags = self._tags(method.delivery_tag, method.multiple)
        if method.requeue:
            self._give_back(tags, now)
        else:
            for tag in tags:
                unacked = self._settle(tag)
                unacked.queue.release(unacked.entry)
        self.serve(now)

    def _reject(self, method: m.BasicReject, now: float) -> None:
        self._nack(m.BasicNack(method.delivery_tag, False, method.requeue), now)

    def _recover(self, method: m.BasicRecover, now: float) -> None:
        if not method.requeue:
            raise Fault(Reply.NOT_IMPLEMENTED, "requeue=false")
        self._give_back(list(self._unacked), now)
        self._wire.send(self.number, m.BasicRecoverOk())
        self.serve(now)

    def _tags(self, tag: int, multiple: bool) -> list[int]:
        if multiple:
            tags = [each for each in self._unacked if not tag or each <= tag]
            if tags or not tag:
                return tags
        elif tag in self._unacked:
            return [tag]
        raise Fault(Reply.PRECONDITION_FAILED, f"unknown delivery tag {tag}")

    def _settle(self, tag: int) -> _Unacked:
        unacked = self._unacked.pop(tag)
        if unacked.consumer is not None:
            unacked.consumer.unacked -= 1
        return unacked

    def _give_back(self, tags: list[int], now: float) -> None:
        """What was not kept goes to where it was; where that is gone, it is gone too."""
        of_queue: dict[Queue, list[Entry]] = {}
        for tag in tags:
            unacked = self._settle(tag)
            of_queue.setdefault(unacked.queue, []).append(unacked.entry)
        for queue, entries in of_queue.items():
            if self._wire.virtual_host.queues.get(queue.name) is not queue:
                for entry in entries:
                    queue.release(entry)
                continue
            queue.put_back(entries, now)
            queue.serve(now)

    # ---- exchanges and queues ----------------------------------------------------------------------------------------

    def _exchange_declare(self, method: m.ExchangeDeclare, _now: float) -> None:
        if method.passive or method.exchange == "":
            self._wire.virtual_host.exchange(method.exchange)
        else:
            self._wire.virtual_host.declare_exchange(method.exchange, _exchange_options(method))
        self._answer(method, m.ExchangeDeclareOk())

    def _exchange_delete(self, method: m.ExchangeDelete, _now: float) -> None:
        self._wire.virtual_host.delete_exchange(method.exchange, if_unused=method.if_unused)
        self._answer(method, m.ExchangeDeleteOk())

    def _exchange_bind(self, method: m.ExchangeBind, _now: float) -> None:
        host = self._wire.virtual_host
        host.bind(host.exchange(method.destination), method.source, method.routing_key)
        self._answer(method, m.ExchangeBindOk())

    def _queue_declare(self, method: m.QueueDeclare, now: float) -> None:
        host = self._wire.virtual_host
        if method.passive:
            queue = host.queue(method.queue, self._wire)
        else:
            if method.queue.startswith("amq.") and method.queue not in host.queues:
                raise Fault(
                    Reply.ACCESS_REFUSED, f"queue '{method.queue}': names that begin with amq. are the broker's"
                )
            name = method.queue or self._wire.new_name("amq.gen-")
            queue = host.declare_queue(name, _options(method), self._wire, now)
        queue.unused_since = now
        self._answer(method, m.QueueDeclareOk(queue.name, len(queue), len(queue.consumers)))

    def _queue_bind(self, method: m.QueueBind, _now: float) -> None:
        host = self._wire.virtual_host
        host.bind(host.queue(method.queue, self._wire), method.exchange, method.routing_key)
        self._answer(method, m.QueueBindOk())

    def _queue_unbind(self, method: m.QueueUnbind, _now: float) -> None:
        host = self._wire.virtual_host
        host.unbind(host.queue(method.queue, self._wire), method.exchange, method.routing_key)
        self._wire.send(self.number, m.QueueUnbindOk())

    def _queue_purge(self, method: m.QueuePurge, _now: float) -> None:
        count = self._wire.virtual_host.queue(method.queue, self._wire).purge()
        self._answer(method, m.QueuePurgeOk(count))

    def _queue_delete(self, method: m.QueueDelete, _now: float) -> None:
        host, count = self._wire.virtual_host, 0
        if method.queue in host.queues:  # as RabbitMQ has it: what is not there is deleted
            queue = host.queue(method.queue, self._wire)
            if method.if_unused and queue.consumers:
                raise Fault(Reply.PRECONDITION_FAILED, f"queue '{queue.name}' in use")
            if method.if_empty and len(queue):
                raise Fault(Reply.PRECONDITION_FAILED, f"queue '{queue.name}' is not empty")
            count = host.delete_queue(queue)
        self._answer(method, m.QueueDeleteOk(count))

    def _answer(self, asked: Any, answer: m.Method) -> None:
        if not asked.no_wait:
            self._wire.send(self.number, answer)

    def _ignore(self, _method: m.Method, _now: float) -> None:
        pass


_KINDS: Final = {kind.value: kind for kind in Kind}


def _exchange_options(method: m.ExchangeDeclare) -> ExchangeOptions:
    """Raises: Fault."""
    name, kind = method.exchange, _KINDS.get(method.type)
    if kind is None:
        raise Fault(Reply.COMMAND_INVALID, f"no exchanges of type '{method.type}' here: {', '.join(_KINDS)}")
    arguments = dict(method.arguments)
    alternate = arguments.pop("alternate-exchange", "")
    if arguments or not isinstance(alternate, str):
        unknown = next(iter(arguments), "alternate-exchange")
        raise Fault(Reply.PRECONDITION_FAILED, f"argument '{unknown}' of exchange '{name}' is not for this broker")
    return ExchangeOptions(kind, method.durable, method.auto_delete, method.internal, alternate)


_ARGUMENTS: Final = {
    "x-max-length": "length_most",
    "x-max-length-bytes": "octets_most",
    "x-message-ttl": "message_ttl_ms",
    "x-expires": "expires_ms",
}
# Of copies on several machines, and of where messages lie: there is one machine here, and its memory.
_IGNORED: Final = frozenset(
    {
        "x-max-priority",
        "x-overflow",
        "x-queue-leader-locator",
        "x-queue-mode",
        "x-queue-type",
        "x-queue-version",
        "x-quorum-initial-group-size",
    }
)


def _options(method: m.QueueDeclare) -> QueueOptions:
    found: dict[str, Any] = {}
    for name, value in method.arguments.items():
        if name in _ARGUMENTS:
            if type(value) is not int or value < (1 if name == "x-expires" else 0):
                raise Fault(Reply.PRECONDITION_FAILED, f"invalid arg '{name}' for queue '{method.queue}'")
            found[_ARGUMENTS[name]] = value
        elif name == "x-single-active-consumer":
            found["single_active"] = value is True
        elif name not in _IGNORED:
            raise Fault(
                Reply.PRECONDITION_FAILED, f"argument '{name}' of queue '{method.queue}' is not for this broker"
            )
    if method.arguments.get("x-queue-type") == "quorum" and (
        not method.durable or method.exclusive or method.auto_delete
    ):
        raise Fault(
            Reply.PRECONDITION_FAILED,
            f"queue '{method.queue}': a quorum queue is durable, neither exclusive nor auto-delete",
        )
    if method.arguments.get("x-overflow", "drop-head") != "drop-head":
        raise Fault(
            Reply.PRECONDITION_FAILED, f"queue '{method.queue}': full queues drop their oldest here (drop-head)"
        )
    return QueueOptions(method.durable, method.exclusive, method.auto_delete, **found)
