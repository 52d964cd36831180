"""What the procedures of the bundle agent share: clock, counters, effects, and transactions under way."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

from tumpline.machines.bpa.clock import Clock
from tumpline.machines.bpa.config import NodeConfig
from tumpline.machines.bpa.identity import Identities, Names
from tumpline.machines.bpa.quota import Quota
from tumpline.machines.bpa.timers import Timers
from tumpline.machines.contract import FileRange, Payload
from tumpline.machines.effects import Effect, Notice, Transact
from tumpline.machines.storage import Operation, Results

Done = Callable[[Any, Results, float], None]  # (what was given as context, results, now)
Failed = Callable[[Any, str, float], None]
# Of transactions that failed, and are to be kept in the end, so many are tried at once: were it all of them, a node whose
# disk is full would do little else. As long as the store takes some, the next follow at once.
RETRIED_AT_ONCE = 16


class Divisible(Protocol):
    """What a transaction is about, if it need not be kept whole."""

    def operations(self) -> list[Operation]:
        """What the store is asked."""

    def halves(self) -> tuple[Self, Self] | None:
        """None: this cannot be divided any more."""


class Pending(NamedTuple):
    """A transaction that the store has not answered yet."""

    operations: list[Operation]
    context: Any
    done: Done
    failed: Failed | None
    divisible: bool
    again: bool = False  # it failed before, as it is or as a part of a longer one

    def halves(self) -> list[Pending]:
        """Two shorter ones, or nothing."""
        halves: tuple[Divisible, Divisible] | None = self.context.halves() if self.divisible else None
        return [self._replace(operations=half.operations(), context=half, again=True) for half in halves or ()]


class Core:
    """One per node; handed to every procedure."""

    def __init__(self, config: NodeConfig, random: Callable[[], float]) -> None:
        self.config = config
        self.random = random
        self.names = Names(config.node_id, config.aliases)
        self.clock = Clock()
        self.timers = Timers()
        self.quota = Quota(config.quota_octets)
        self.identities = Identities(config.identities_per_source)
        self.counters: Counter[str] = Counter()
        self.effects: list[Effect] = []
        self.last_seq = 0
        self.started = False
        self._pending: dict[int, Pending] = {}
        self._last_token = 0
        self.failure: str | None = None  # why the store did not keep something that it is still to keep
        self._failed: deque[Pending] = deque()  # to be tried again
        self._retry_s = config.retry_s_min

    def notice(self, name: str, **fields: Any) -> None:
        self.effects.append(Notice(name, fields))

    def transact(self, operations: list[Operation], context: Any, done: Done, failed: Failed | None = None) -> None:
        """One durable transaction; `done(context, results, now)` once it is kept.

        Without `failed` it is tried again after a failure, later and later, until it is kept: right for removals.
        """
        self._submit(Pending(operations, context, done, failed, divisible=False))

    def transact_parts(self, whole: Divisible, done: Done, failed: Failed | None = None) -> None:
        """As `transact`, with `whole` as context; but a batch for which the store has no room as a whole (a full disk)
        is tried in halves, and in halves of these. So `done` and `failed` may be called for several parts of it."""
        self._submit(Pending(whole.operations(), whole, done, failed, divisible=True))

    def _submit(self, pending: Pending) -> None:
        self._last_token = token = self._last_token + 1
        self._pending[token] = pending
        self.effects.append(Transact(token, pending.operations))

    def store_done(self, token: int, results: Results, now: float) -> None:
        pending = self._pending.pop(token)
        self._retry_s = self.config.retry_s_min
        if not self._failed:
            self.failure = None
        elif pending.again:
            self.timers.set("store", now, self._try_again)  # there is room: the next ones
        pending.done(pending.context, results, now)

    def store_failed(self, token: int, text: str, now: float) -> None:
        pending = self._pending.pop(token)
        self.counters["store_failures"] += 1
        self.notice("store_failed", error=text, operations=len(pending.operations))
        halves = pending.halves()
        if pending.failed is None:
            # Half of it now, and the rest when that worked or later: a full disk is found out in a few steps.
            self.failure = text
            self._failed.extend(halves[1:] or [pending._replace(again=True)])
            self._wait(now)
            halves = halves[:1]
        elif not halves:
            pending.failed(pending.context, text, now)
        for half in halves:
            self._submit(half)

    def _wait(self, now: float) -> None:
        if not self.timers.is_set("store"):
            self.timers.set("store", now + self._retry_s, self._try_again)
            self._retry_s = min(self._retry_s * 2, self.config.retry_s_max)

    def _try_again(self, _: float) -> None:
        for _ in range(min(RETRIED_AT_ONCE, len(self._failed))):
            self._submit(self._failed.popleft())

    @property
    def transactions(self) -> int:
        """How many the store has not answered yet, or not kept yet."""
        return len(self._pending) + len(self._failed)


def release_payload(payload: Payload) -> None:
    """Give up a payload that nobody took over."""
    if isinstance(payload, FileRange):
        payload.handle.release()


def retain_payload(payload: Payload) -> Payload:
    """One more reader of it."""
    if isinstance(payload, FileRange):
        payload.handle.retain()
    return payload
