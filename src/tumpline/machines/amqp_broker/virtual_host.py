"""Exchanges and queues of one virtual host, and how they are bound."""

from __future__ import annotations

from typing import Final

from tumpline.machines.amqp_broker.errors import Fault, Reply
from tumpline.machines.amqp_broker.exchanges import Exchange, ExchangeOptions, Kind
from tumpline.machines.amqp_broker.queue import Memory, Message, Queue, QueueOptions

QUEUES_MOST: Final = 4096
EXCHANGES_MOST: Final = 256
BINDINGS_MOST: Final = 1024  # of one queue, or of one exchange to others


class VirtualHost:
    """Names mean something within one of these only."""

    def __init__(self, memory: Memory) -> None:
        self.queues: dict[str, Queue] = {}
        self._memory = memory
        self._exchanges: dict[str, Exchange] = {}
        self._bindings: dict[Queue | Exchange, dict[tuple[Exchange, str], None]] = {}  # by where they lead
        for kind in Kind:
            self._add(Exchange(f"amq.{kind.value}", ExchangeOptions(kind, durable=True), is_ours=True))

    # ---- exchanges ---------------------------------------------------------------------------------------------------

    def exchange(self, name: str) -> Exchange:
        """Raises: Fault."""
        found = self._exchanges.get(name)
        if found is None:
            raise Fault(Reply.NOT_FOUND, f"no exchange '{name}'")
        return found

    def declare_exchange(self, name: str, options: ExchangeOptions) -> None:
        """Raises: Fault."""
        known = self._exchanges.get(name)
        if known is not None:
            if known.options != options:
                raise Fault(
                    Reply.PRECONDITION_FAILED,
                    f"exchange '{name}' was declared otherwise: it is of type {known.options.kind.value}",
                )
            return
        if name.startswith("amq."):
            raise Fault(Reply.ACCESS_REFUSED, f"exchange '{name}': names that begin with amq. are the broker's")
        if len(self._exchanges) >= EXCHANGES_MOST:
            raise Fault(Reply.RESOURCE_ERROR, f"{EXCHANGES_MOST} exchanges are there")
        self._add(Exchange(name, options))

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """Its bindings go with it. Raises: Fault."""
        found = self._exchanges.get(name)
        if found is None:
            return  # as RabbitMQ has it
        if found.is_ours:
            raise Fault(Reply.ACCESS_REFUSED, f"exchange '{name}' is the broker's")
        if if_unused and found.bindings:
            raise Fault(Reply.PRECONDITION_FAILED, f"exchange '{name}' is used")
        self._drop(found)

    def _add(self, exchange: Exchange) -> None:
        self._exchanges[exchange.name] = exchange
        self._bindings[exchange] = {}

    def _drop(self, exchange: Exchange) -> None:
        """It is gone, and all bindings that lead away from it or to it."""
        del self._exchanges[exchange.name]
        for bindings in self._bindings.values():
            for binding in [each for each in bindings if each[0] is exchange]:
                del bindings[binding]
        self._unbind_all(exchange)

    # ---- queues ------------------------------------------------------------------------------------------------------

    def queue(self, name: str, asker: object) -> Queue:
        """Raises: Fault."""
        found = self.queues.get(name)
        if found is None:
            raise Fault(Reply.NOT_FOUND, f"no queue '{name}'")
        if found.owner is not None and found.owner is not asker:
            raise Fault(Reply.RESOURCE_LOCKED, f"cannot obtain exclusive access to locked queue '{name}'")
        return found

    def declare_queue(self, name: str, options: QueueOptions, asker: object, now: float) -> Queue:
        """The one that is there, or a new one. Raises: Fault."""
        if name in self.queues:
            known = self.queue(name, asker)
            if known.options != options:
                raise Fault(Reply.PRECONDITION_FAILED, f"queue '{name}' was declared otherwise")
            return known
        if len(self.queues) >= QUEUES_MOST:
            raise Fault(Reply.RESOURCE_ERROR, f"{QUEUES_MOST} queues are there")
        queue = self.queues[name] = Queue(name, options, asker if options.exclusive else None, self._memory)
        queue.unused_since = now
        self._bindings[queue] = {}
        return queue

    def delete_queue(self, queue: Queue) -> int:
        """Those who consume it are told; how many messages were in it."""
        del self.queues[queue.name]
        self._unbind_all(queue)
        consumers = list(queue.consumers)
        queue.consumers.clear()
        for consumer in consumers:
            consumer.cancelled()
        return queue.purge()

    def leave(self, owner: object) -> None:
        """A connection is gone, and its exclusive queues with it."""
        for queue in [each for each in self.queues.values() if each.owner is owner]:
            self.delete_queue(queue)

    def consumer_left(self, queue: Queue, now: float) -> None:
        """One that nobody consumes any more may have to go."""
        queue.unused_since = now
        if queue.options.auto_delete and not queue.consumers and self.queues.get(queue.name) is queue:
            self.delete_queue(queue)

    def next_timeout(self) -> float | None:
        """When the next queue will have been unused, or the next message have waited, for long enough."""
        times = [_expiry(queue) for queue in self.queues.values() if _expires(queue)]
        times += [at for queue in self.queues.values() if (at := queue.next_too_old()) is not None]
        return min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        """Delete queues that were unused for so long, and drop messages that have waited for too long."""
        for queue in [each for each in self.queues.values() if _expires(each) and _expiry(each) <= now]:
            self.delete_queue(queue)
        for queue in self.queues.values():
            queue.drop_old(now)

    # ---- bindings ----------------------------------------------------------------------------------------------------

    def bind(self, target: Queue | Exchange, source: str, key: str) -> None:
        """Idempotent. Raises: Fault."""
        exchange, bindings = self._source(source), self._bindings[target]
        if (exchange, key) in bindings:
            return
        if len(bindings) >= BINDINGS_MOST:
            raise Fault(Reply.RESOURCE_ERROR, f"'{target.name}' has {BINDINGS_MOST} bindings")
        bindings[exchange, key] = None
        exchange.bind(key, target)

    def unbind(self, target: Queue | Exchange, source: str, key: str) -> None:
        """Idempotent. Raises: Fault."""
        exchange, bindings = self._source(source), self._bindings[target]
        if (exchange, key) in bindings:
            del bindings[exchange, key]
            self._unbind(exchange, key, target)

    def route(self, message: Message) -> tuple[Queue, ...]:
        """Where it goes. Raises: Fault."""
        key = message.routing_key
        if message.exchange == "":
            queue = self.queues.get(key)
            return (queue,) if queue is not None else ()
        first = self.exchange(message.exchange)
        if first.options.internal:
            raise Fault(Reply.ACCESS_REFUSED, f"exchange '{first.name}' is internal")
        queues, onward = first.queues(key), first.onward(key)
        if not onward and (queues or not first.options.alternate):
            return queues
        return self._route_on(first, key)

    def _route_on(self, first: Exchange, key: str) -> tuple[Queue, ...]:
        """Over several exchanges; in circles, too."""
        found: dict[Queue, None] = {}
        seen: set[Exchange] = set()
        waiting = [first]
        while waiting:
            exchange = waiting.pop()
            if exchange in seen:
                continue
            seen.add(exchange)
            queues, onward = exchange.queues(key), exchange.onward(key)
            found.update(dict.fromkeys(queues))
            waiting += onward
            if not queues and not onward:
                alternate = self._exchanges.get(exchange.options.alternate)
                waiting += [alternate] if alternate is not None else []
        return tuple(found)

    def _source(self, name: str) -> Exchange:
        if name == "":
            raise Fault(Reply.ACCESS_REFUSED, "the default exchange binds each queue by its name, and nothing else")
        return self.exchange(name)

    def _unbind_all(self, target: Queue | Exchange) -> None:
        for exchange, key in self._bindings.pop(target):
            self._unbind(exchange, key, target)

    def _unbind(self, exchange: Exchange, key: str, target: Queue | Exchange) -> None:
        exchange.unbind(key, target)
        if exchange.options.auto_delete and not exchange.bindings and exchange.name in self._exchanges:
            self._drop(exchange)


def _expires(queue: Queue) -> bool:
    return queue.options.expires_ms is not None and not queue.consumers


def _expiry(queue: Queue) -> float:
    assert queue.options.expires_ms is not None
    return queue.unused_since + queue.options.expires_ms / 1000
