"""What the procedures of the bundle agent share: clock, counters, effects, and transactions under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Pending(NamedTuple):
    """A transaction that the store has not answered yet."""

    operations: list[Operation]
    context: Any
    done: Done
    failed: Failed | None


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
        self._retry_s = config.retry_s_min

    def notice(self, name: str, **fields: Any) -> None:
        self.effects.append(Notice(name, fields))

    def transact(self, operations: list[Operation], context: Any, done: Done, failed: Failed | None = None) -> None:
        """One durable transaction; `done(context, results, now)` once it is kept.

        Without `failed` it is tried again after a failure, later and later, until it is kept: right for removals.
        """
        self._last_token = token = self._last_token + 1
        self._pending[token] = Pending(operations, context, done, failed)
        self.effects.append(Transact(token, operations))

    def store_done(self, token: int, results: Results, now: float) -> None:
        _, context, done, _ = self._pending.pop(token)
        self._retry_s = self.config.retry_s_min
        done(context, results, now)

    def store_failed(self, token: int, text: str, now: float) -> None:
        pending = self._pending.pop(token)
        self.counters["store_failures"] += 1
        self.notice("store_failed", error=text, operations=len(pending.operations))
        if pending.failed is not None:
            pending.failed(pending.context, text, now)
            return
        again = Pending(*pending)
        delay_s, self._retry_s = self._retry_s, min(self._retry_s * 2, self.config.retry_s_max)
        self.timers.set(
            ("store", token), now + delay_s, lambda _: self.transact(again.operations, again.context, again.done)
        )

    @property
    def transactions(self) -> int:
        """How many the store has not answered yet."""
        return len(self._pending)


def release_payload(payload: Payload) -> None:
    """Give up a payload that nobody took over."""
    if isinstance(payload, FileRange):
        payload.handle.release()


def retain_payload(payload: Payload) -> Payload:
    """One more reader of it."""
    if isinstance(payload, FileRange):
        payload.handle.retain()
    return payload
