"""Exchanges: where messages are published to, and the queues and other exchanges that their keys lead to."""

from __future__ import annotations

from enum import Enum
from typing import Generic, NamedTuple, Protocol, TypeVar

from tumpline.machines.amqp_broker.queue import Queue
from tumpline.machines.amqp_broker.topics import Topics

T = TypeVar("T")


class Kind(Enum):
    """How an exchange compares the key of a message with those of its bindings."""

    DIRECT = "direct"
    FANOUT = "fanout"
    TOPIC = "topic"


class Router(Protocol[T]):
    """What finds the targets of a key."""

    def bind(self, key: str, target: T) -> None: ...

    def unbind(self, key: str, target: T) -> None: ...

    def find(self, key: str) -> tuple[T, ...]: ...


class Direct(Generic[T]):
    """Keys are the same or not; for a fanout exchange all are the same."""

    def __init__(self, *, any_key: bool) -> None:
        self._any_key = any_key
        self._targets: dict[str, dict[T, int]] = {}  # how many bindings lead there

    def bind(self, key: str, target: T) -> None:
        """Once a binding."""
        targets = self._targets.setdefault(self._key(key), {})
        targets[target] = targets.get(target, 0) + 1

    def unbind(self, key: str, target: T) -> None:
        """Once a binding."""
        targets = self._targets[self._key(key)]
        targets[target] -= 1
        if not targets[target]:
            del targets[target]

    def find(self, key: str) -> tuple[T, ...]:
        """In order of binding."""
        return tuple(self._targets.get(self._key(key), ()))

    def _key(self, key: str) -> str:
        return "" if self._any_key else key


class ExchangeOptions(NamedTuple):
    """How it was declared; a second declaration must say the same."""

    kind: Kind
    durable: bool = False
    auto_delete: bool = False  # it goes with the last binding of those that lead away from it
    internal: bool = False  # only other exchanges publish to it
    alternate: str = ""  # gets what nobody here is bound for


class Exchange:
    """`is_ours`: there from the start, and not to be deleted."""

    def __init__(self, name: str, options: ExchangeOptions, *, is_ours: bool = False) -> None:
        self.name = name
        self.options = options
        self.is_ours = is_ours
        self.bindings = 0  # that lead away from it
        self._queues = _router(options.kind, Queue)
        self._exchanges = _router(options.kind, Exchange)

    def bind(self, key: str, target: Queue | Exchange) -> None:
        """Once a binding."""
        self.bindings += 1
        if isinstance(target, Queue):
            self._queues.bind(key, target)
        else:
            self._exchanges.bind(key, target)

    def unbind(self, key: str, target: Queue | Exchange) -> None:
        """Once a binding."""
        self.bindings -= 1
        if isinstance(target, Queue):
            self._queues.unbind(key, target)
        else:
            self._exchanges.unbind(key, target)

    def queues(self, key: str) -> tuple[Queue, ...]:
        """Those bound here."""
        return self._queues.find(key)

    def onward(self, key: str) -> tuple[Exchange, ...]:
        """Exchanges bound here."""
        return self._exchanges.find(key)


def _router(kind: Kind, _of: type[T]) -> Router[T]:
    return Topics[T]() if kind is Kind.TOPIC else Direct[T](any_key=kind is Kind.FANOUT)
