"""Exchanges and queues of one virtual host, and how they are bound."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple, Protocol

from tumpline.machines.amqp_broker.errors import Fault, Reply
from tumpline.machines.amqp_broker.queue import Memory, Message, Queue, QueueOptions
from tumpline.machines.amqp_broker.topics import Topics

QUEUES_MOST: Final = 4096
EXCHANGES_MOST: Final = 256
BINDINGS_MOST: Final = 1024  # of one queue


class Kind(Enum):
    """How an exchange compares the key of a message with those of its bindings."""

    DIRECT = "direct"
    FANOUT = "fanout"
    TOPIC = "topic"


class Router(Protocol):
    """What finds the queues of a key."""

    def bind(self, key: str, target: Queue) -> None: ...

    def unbind(self, key: str, target: Queue) -> None: ...

    def find(self, key: str) -> tuple[Queue, ...]: ...


class Direct:
    """Keys are the same or not; for a fanout exchange all are the same."""

    def __init__(self, *, any_key: bool) -> None:
        self._any_key = any_key
        self._targets: dict[str, dict[Queue, int]] = {}  # how many bindings lead there

    def bind(self, key: str, target: Queue) -> None:
        """Once a binding."""
        targets = self._targets.setdefault(self._key(key), {})
        targets[target] = targets.get(target, 0) + 1

    def unbind(self, key: str, target: Queue) -> None:
        """Once a binding."""
        targets = self._targets[self._key(key)]
        targets[target] -= 1
        if not targets[target]:
            del targets[target]

    def find(self, key: str) -> tuple[Queue, ...]:
        """In order of binding."""
        return tuple(self._targets.get(self._key(key), ()))

    def _key(self, key: str) -> str:
        return "" if self._any_key else key


class Exchange(NamedTuple):
    """`is_ours`: there from the start, and not to be deleted."""

    name: str
    kind: Kind
    is_ours: bool
    router: Router


def _exchange(name: str, kind: Kind, *, is_ours: bool = False) -> Exchange:
    router: Router = Topics[Queue]() if kind is Kind.TOPIC else Direct(any_key=kind is Kind.FANOUT)
    return Exchange(name, kind, is_ours, router)


class VirtualHost:
    """Names mean something within one of these only."""

    def __init__(self, memory: Memory) -> None:
        self.queues: dict[str, Queue] = {}
        self._memory = memory
        self._exchanges = {f"amq.{kind.value}": _exchange(f"amq.{kind.value}", kind, is_ours=True) for kind in Kind}
        self._bindings: dict[Queue, dict[tuple[str, str], None]] = {}

    # ---- exchanges ---------------------------------------------------------------------------------------------------

    def exchange(self, name: str) -> Exchange:
        """Raises: Fault."""
        found = self._exchanges.get(name)
        if found is None:
            raise Fault(Reply.NOT_FOUND, f"no exchange '{name}'")
        return found

    def declare_exchange(self, name: str, kind: str) -> None:
        """Raises: Fault."""
        known = self._exchanges.get(name)
        if known is not None:
            if known.kind.value != kind:
                raise Fault(Reply.PRECONDITION_FAILED, f"exchange '{name}' is of type {known.kind.value}")
            return
        if kind not in {each.value for each in Kind}:
            raise Fault(Reply.COMMAND_INVALID, f"no exchanges of type '{kind}' here: direct, fanout, topic")
        if name.startswith("amq."):
            raise Fault(Reply.ACCESS_REFUSED, f"exchange '{name}': names that begin with amq. are the broker's")
        if len(self._exchanges) >= EXCHANGES_MOST:
            raise Fault(Reply.RESOURCE_ERROR, f"{EXCHANGES_MOST} exchanges are there")
        self._exchanges[name] = _exchange(name, Kind(kind))

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """Its bindings go with it. Raises: Fault."""
        found = self._exchanges.get(name)
        if found is None:
            return  # as RabbitMQ has it
        if found.is_ours:
            raise Fault(Reply.ACCESS_REFUSED, f"exchange '{name}' is the broker's")
        bound = [keys for keys in self._bindings.values() if any(exchange == name for exchange, _ in keys)]
        if if_unused and bound:
            raise Fault(Reply.PRECONDITION_FAILED, f"exchange '{name}' is used")
        for keys in bound:
            for binding in [each for each in keys if each[0] == name]:
                del keys[binding]
        del self._exchanges[name]

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
        for exchange, key in self._bindings.pop(queue):
            self._exchanges[exchange].router.unbind(key, queue)
        del self.queues[queue.name]
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

    def bind(self, queue: Queue, exchange: str, key: str) -> None:
        """Idempotent. Raises: Fault."""
        if exchange == "":
            raise Fault(Reply.ACCESS_REFUSED, "the default exchange binds each queue by its name, and nothing else")
        router, bindings = self.exchange(exchange).router, self._bindings[queue]
        if (exchange, key) in bindings:
            return
        if len(bindings) >= BINDINGS_MOST:
            raise Fault(Reply.RESOURCE_ERROR, f"queue '{queue.name}' has {BINDINGS_MOST} bindings")
        bindings[exchange, key] = None
        router.bind(key, queue)

    def unbind(self, queue: Queue, exchange: str, key: str) -> None:
        """Idempotent. Raises: Fault."""
        router = self.exchange(exchange).router
        if self._bindings[queue].pop((exchange, key), self) is not self:
            router.unbind(key, queue)

    def route(self, message: Message) -> tuple[Queue, ...]:
        """Where it goes. Raises: Fault."""
        if message.exchange == "":
            queue = self.queues.get(message.routing_key)
            return (queue,) if queue is not None else ()
        return self.exchange(message.exchange).router.find(message.routing_key)


def _expires(queue: Queue) -> bool:
    return queue.options.expires_ms is not None and not queue.consumers


def _expiry(queue: Queue) -> float:
    assert queue.options.expires_ms is not None
    return queue.unused_since + queue.options.expires_ms / 1000
