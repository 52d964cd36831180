"""Received bundles on their way from one object of an agent into the node's store.

What the agent has told of waits there until there is room here. The older agent forgets a bundle once it was fetched, and
its sender has long been told that it came: whatever was fetched is kept and shown to the node until the node takes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tumpline.machines.backoff import Backoff
from tumpline.machines.dbus_cl.core import Core
from tumpline.machines.dbus_cl.effects import DATA_OCTETS_MOST, Discard, Failure, Present, Take, Way
from tumpline.machines.effects import RefuseReason

POP: Final = "recv_bundle_pop_"
QUEUE: Final = "recv_bundle_get_queue"
ACCEPT: Final = "recv_bundle_accept"  # ours only: the sender is told now, and not when it came
REFUSE: Final = "recv_bundle_refuse"
UNKNOWN: Final = -1  # octets of a bundle of which we know only that it waits
WAITING_MOST: Final = 10_000  # told of and not fetched; of more, the agent is asked again
TRIES_MOST: Final = 3  # of fetching one bundle

Origin = tuple[str, int] | None  # whence it came: address and port


class Item:
    """One received bundle."""

    __slots__ = ("id", "in_memory", "octets", "origin", "token", "tries", "way")

    def __init__(self, name: str, octets: int, origin: Origin) -> None:
        self.id = name
        self.octets = octets
        self.origin = origin
        self.token = 0
        self.way = Way.DATA
        self.in_memory = 0  # octets that it takes here
        self.tries = 0


class Intake:
    """`over(origin)` gives the node's path that a bundle from there comes over; `idle(now)`: nothing is here any more."""

    def __init__(
        self,
        core: Core,
        source: str,
        interface: str,
        over: Callable[[Origin], int],
        idle: Callable[[float], None],
    ) -> None:
        self._core = core
        self._source = source
        self._interface = interface
        self._over = over
        self._idle = idle
        self._waiting: deque[Item] = deque()
        self._known: set[str] = set()  # told of, and still the agent's
        self._taking: dict[int, Item] = {}
        self._shown: dict[int, Item] = {}  # to the node, which has not answered yet
        self._refusing: dict[int, Item] = {}  # their senders are being told that the node does not keep them
        self._held: dict[int, Item] = {}  # the node had no room: to be shown again
        self._is_open = False
        self._is_closed = False
        self._is_asking = False  # the agent for its queue
        self._missed = False  # some were told of and not noted
        self._resume_at = 0.0
        self._backoff = Backoff(core.random, core.config.retry_s_first, core.config.retry_s_max)
        self._timer = ("resume", core.token())

    @property
    def is_idle(self) -> bool:
        """Nothing is to be fetched, and nothing that was waits for an answer."""
        return not (self._is_asking or self._waiting or self._taking or self._here)

    @property
    def _here(self) -> int:
        """How many have been fetched and not answered."""
        return len(self._shown) + len(self._held) + len(self._refusing)

    @property
    def waiting(self) -> int:
        """How many the agent has for us, as far as we know."""
        return len(self._waiting)

    # ---- what the agent says -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """There is a path: ask what waits, and begin to fetch."""
        self._is_open, self._is_closed = True, False
        self._ask()

    def _ask(self) -> None:
        self._missed, self._is_asking = False, True
        self._core.call(self._source, self._interface, QUEUE, self._listed, self._not_listed)

    def _listed(self, values: tuple[Any, ...], now: float) -> None:
        for name in values[0] if values else ():
            self.announced(str(name), UNKNOWN, None, now)
        self._not_listed(None, now)

    def _not_listed(self, failure: Failure | None, now: float) -> None:  # noqa: ARG002
        self._is_asking = False
        self._go_on(now)

    def announced(self, name: str, octets: int, origin: Origin, now: float) -> None:
        """The agent has a bundle for us."""
        if name in self._known or self._is_closed:
            return
        if len(self._waiting) >= WAITING_MOST:
            self._missed = True
            return
        self._known.add(name)
        self._waiting.append(Item(name, octets, origin))
        self.pump(now)

    def close(self) -> None:
        """The agent has nothing more for us, or is gone: what is here is still shown."""
        self._is_open, self._is_closed, self._is_asking = False, True, False
        self._waiting.clear()
        self._known.clear()

    # ---- fetching ----------------------------------------------------------------------------------------------------

    def pump(self, now: float) -> None:
        """Fetch as many as there is room for."""
        if now < self._resume_at or not self._is_open or self._is_asking:
            return
        core, most = self._core, self._core.config.takes_most
        while self._waiting and len(self._taking) + self._here < most:
            item = self._waiting[0]
            item.way = core.way(self._interface, POP, item.octets, DATA_OCTETS_MOST)
            item.in_memory = max(item.octets, 0) if item.way is Way.DATA else 0
            if not core.fits(item.in_memory):
                core.hungry[self] = None
                return
            self._take(self._waiting.popleft())
        if self._missed and not (self._waiting or self._taking):
            self._ask()

    def _take(self, item: Item) -> None:
        core = self._core
        item.token = token = core.token()
        self._taking[token] = item
        core.takers[token] = self
        core.taken_octets += item.in_memory
        core.expect(token, _nothing, lambda failure, now: self._not_taken(token, failure, now))
        over = self._over(item.origin)
        core.effects.append(Take(token, self._source, self._interface, item.way, item.id, item.octets, over))

    def popped(self, token: int, octets: int) -> None:
        """Its octets are here; the agent has forgotten it."""
        item = self._taking.pop(token)
        self._core.settled(token)
        self._known.discard(item.id)
        in_memory = octets if item.way is Way.DATA else 0
        self._core.taken_octets += in_memory - item.in_memory
        item.in_memory, item.octets = in_memory, octets
        self._show(item)

    def _not_taken(self, token: int, failure: Failure, now: float) -> None:
        item = self._taking.pop(token, None)
        if item is None:
            return
        self._forget(token, item, now)
        lacks = failure.is_unknown_method and item.way is not Way.DATA
        if lacks:
            self._core.lacking.add(POP + item.way.value)
        item.tries += 0 if lacks else 1
        if self._is_open and item.tries < TRIES_MOST and not failure.is_gone:
            self._waiting.appendleft(item)
        else:
            self._known.discard(item.id)
            self._core.notice("bundle_not_fetched", id=item.id, reason=failure.text)
        self._go_on(now)

    # ---- showing -----------------------------------------------------------------------------------------------------

    def _show(self, item: Item) -> None:
        self._shown[item.token] = item
        self._core.effects.append(Present(item.token, self._over(item.origin)))

    def no_room(self, token: int, now: float) -> None:
        """The node cannot take it now. What was not fetched stays the agent's, or its sender's."""
        item = self._taking.pop(token, None)
        if item is None:
            self.refused(token, RefuseReason.NO_RESOURCES, now)
            return
        self._core.settled(token)
        self._forget(token, item, now)
        if self._core.can(self._interface, REFUSE):
            self._refuse(item, RefuseReason.NO_RESOURCES, self._stays)
        else:
            self._stays(item, now)

    def _stays(self, item: Item, now: float) -> None:
        """It waits with the agent until there may be room."""
        self._pause(now)
        if self._is_open:
            self._waiting.appendleft(item)

    def _refuse(self, item: Item, reason: RefuseReason, otherwise: Callable[[Item, float], None]) -> None:
        """Have its sender told, which then keeps it. Of one that came before we held any it is too late for that."""

        def done(_values: tuple[Any, ...], now: float) -> None:
            self._release(item, now)

        def failed(_failure: Failure, now: float) -> None:
            otherwise(item, now)

        self._core.call(self._source, self._interface, REFUSE, done, failed, "ss", (item.id, reason.value))

    def _release(self, item: Item, now: float) -> None:
        """Whatever of it is here goes."""
        self._known.discard(item.id)
        if item.token in self._refusing:
            del self._refusing[item.token]
            self._core.effects.append(Discard(item.token))
            self._forget(item.token, item, now)
        self._go_on(now)

    def _forget(self, token: int, item: Item, now: float) -> None:
        """Nothing of it is here any more."""
        del self._core.takers[token]
        self._core.give_back(item.in_memory, now)

    def _pause(self, now: float) -> None:
        if now >= self._resume_at:
            self._resume_at = now + self._backoff.next_delay_s()
            self._core.timers.set(self._timer, self._resume_at, self._resume)

    def _resume(self, now: float) -> None:
        held, self._held = self._held, {}
        for item in held.values():
            self._show(item)
        self._go_on(now)

    def acknowledged(self, token: int, now: float) -> None:
        """The node keeps it."""
        self._backoff.reset()
        self._answered(token, now)

    def refused(self, token: int, reason: RefuseReason, now: float) -> None:
        """The node does not keep it: not now, or never."""
        item = self._shown.get(token)
        if item is None:
            return
        if self._is_open and self._core.can(self._interface, REFUSE):
            self._refusing[token] = self._shown.pop(token)
            self._refuse(item, reason, self._kept if _is_passing(reason) else self._release)
        elif _is_passing(reason):
            self._kept(item, now)
        else:
            self._answered(token, now)

    def _kept(self, item: Item, now: float) -> None:
        """Nobody else has it: it is shown again later."""
        self._shown.pop(item.token, None)
        self._refusing.pop(item.token, None)
        self._held[item.token] = item
        self._pause(now)

    def _answered(self, token: int, now: float) -> None:
        item = self._shown.pop(token, None)
        if item is None:
            return
        core = self._core
        core.effects.append(Discard(token))
        if self._is_open and core.can(self._interface, ACCEPT):
            core.tell(self._source, self._interface, ACCEPT, "s", item.id)
        self._forget(token, item, now)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        self.pump(now)
        if self.is_idle:
            self._idle(now)

    def drop_all(self) -> None:
        """The link stops: what is here goes."""
        for token in (*self._taking, *self._shown, *self._held, *self._refusing):
            self._core.effects.append(Discard(token))
            del self._core.takers[token]
        self._taking.clear()
        self._shown.clear()
        self._held.clear()
        self._refusing.clear()
        self._core.timers.cancel(self._timer)


def _is_passing(reason: RefuseReason) -> bool:
    """Whether it may be taken another time."""
    return reason in (RefuseReason.NO_RESOURCES, RefuseReason.RETRANSMIT)


def _nothing(values: tuple[Any, ...], now: float) -> None:
    pass
