"""A queue: messages in order, those who consume them, and what was given to whom and not acknowledged."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple, Protocol

MESSAGE_COST_OCTETS: Final = 400  # what Python needs for one, beside its octets


class Message(NamedTuple):
    """As it was published. `header` is the payload of its content header frame, handed on as it came."""

    exchange: str
    routing_key: str
    header: bytes
    body: bytes

    @property
    def cost(self) -> int:
        """Octets of memory."""
        return len(self.body) + len(self.header) + MESSAGE_COST_OCTETS


class Entry(NamedTuple):
    """A message in one queue. `number` is its place: what comes back goes to where it was."""

    number: int
    message: Message
    redelivered: bool


class Consumer(Protocol):
    """Who takes messages."""

    @property
    def is_ready(self) -> bool:
        """Whether one more may be given to it now."""

    def take(self, queue: Queue, entry: Entry) -> None:
        """Here is one."""

    def cancelled(self) -> None:
        """The queue is gone."""


class QueueOptions(NamedTuple):
    """How it was declared; a second declaration must say the same."""

    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    length_most: int | None = None  # x-max-length: the oldest are dropped
    octets_most: int | None = None  # x-max-length-bytes, of bodies
    message_ttl_ms: int | None = None
    expires_ms: int | None = None  # unused for so long, it is deleted
    single_active: bool = False  # one consumer gets all, until it goes


class Queue:
    """`memory` is shared by all queues of a broker."""

    def __init__(self, name: str, options: QueueOptions, owner: object | None, memory: Memory) -> None:
        self.name = name
        self.options = options
        self.owner = owner  # the connection of an exclusive one
        self.dropped = 0
        self.was_consumed = False
        self.consumers: deque[Consumer] = deque()  # the next to be served first
        self.unused_since = 0.0
        self._memory = memory
        self._entries: deque[tuple[Entry, float]] = deque()  # with the time of arrival
        self._body_octets = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, message: Message, now: float) -> None:
        """At the end. What is then too much is dropped at the other one."""
        self._append(Entry(self._next, message, False), now)
        self._next += 1
        limits = self.options
        while (limits.length_most is not None and len(self._entries) > limits.length_most) or (
            limits.octets_most is not None and self._body_octets > limits.octets_most
        ):
            self.release(self._pop()[0])
            self.dropped += 1

    def put_back(self, entries: list[Entry], now: float) -> None:
        """Given to somebody who did not keep them: they go to where they were, and say so."""
        for entry in sorted(entries, reverse=True):
            passed: list[tuple[Entry, float]] = []
            while self._entries and self._entries[0][0].number < entry.number:
                passed.append(self._entries.popleft())
            self._body_octets += len(entry.message.body)
            self._entries.appendleft((entry._replace(redelivered=True), now))
            self._entries.extendleft(reversed(passed))

    def pop(self, now: float) -> Entry | None:
        """The first that is not too old: to be given to `release` or `put_back` in the end."""
        self.drop_old(now)
        return self._pop()[0] if self._entries else None

    def drop_old(self, now: float) -> None:
        """What has waited for too long."""
        while (at := self.next_too_old()) is not None and at <= now:
            self.dropped += 1
            self.release(self._pop()[0])

    def next_too_old(self) -> float | None:
        """When the first will have waited for too long."""
        if self.options.message_ttl_ms is None or not self._entries:
            return None
        return self._entries[0][1] + self.options.message_ttl_ms / 1000

    def release(self, entry: Entry) -> None:
        """One that was taken is not needed any more."""
        self._memory.octets -= entry.message.cost

    def purge(self) -> int:
        """Drop all; how many there were."""
        count = len(self._entries)
        while self._entries:
            self.release(self._pop()[0])
        return count

    def serve(self, now: float) -> None:
        """Give messages to consumers, one after the other, as long as some of them take any."""
        while self._entries and (consumer := self._next_ready()) is not None:
            entry = self.pop(now)
            if entry is None:
                return
            consumer.take(self, entry)

    def _next_ready(self) -> Consumer | None:
        if self.options.single_active:
            return self.consumers[0] if self.consumers and self.consumers[0].is_ready else None
        for _ in range(len(self.consumers)):
            consumer = self.consumers[0]
            self.consumers.rotate(-1)
            if consumer.is_ready:
                return consumer
        return None

    def _append(self, entry: Entry, now: float) -> None:
        self._body_octets += len(entry.message.body)
        self._memory.octets += entry.message.cost
        self._entries.append((entry, now))

    def _pop(self) -> tuple[Entry, float]:
        entry, arrived = self._entries.popleft()
        self._body_octets -= len(entry.message.body)
        return entry, arrived


class Memory:
    """What all queues of a broker hold together, in octets."""

    def __init__(self, octets_most: int) -> None:
        self.octets_most = octets_most
        self.octets = 0

    @property
    def is_full(self) -> bool:
        """Nobody may publish until it is not."""
        return self.octets >= self.octets_most
