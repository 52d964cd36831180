"""Several routers on one session: which of them takes which share of the sources, and how a share changes hands in order.

A share is a queue with a single active consumer (`x-single-active-consumer`): all routers subscribe to it, the broker feeds
one. Who should be that one is said by rendezvous hashing; a router that is fed though another one should be gives way:
it cancels, waits for the broker's answer, passes on all that had come before it, says `released`, and subscribes again,
behind the others. Whoever is fed next holds what comes until it hears that, so that no packet overtakes an older one of
the same source. A router that was killed says nothing: after `HANDOVER_S` its successor asks whether it is there, and goes on
if the broker knows nobody of that name; one that is only slow is waited for. Messages are taken without acknowledgement: what a
killed router had fetched is lost, nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from tumpline.machines import overlay

# A broker answers a cancel within milliseconds; a router that was killed never does: ask, and ask again.
HANDOVER_S: Final = 0.25
HANDOVER_MOST_S: Final = 5.0  # one that holds its name for so long and releases nothing hangs
HELD_MOST: Final = 4096  # messages of one share, in that time
GIVE_WAY_MOST: Final = 4  # times among the same routers: one that is listed may be gone, and nobody knows yet
SETTLE_S: Final = 1.0  # after the last change among routers, before anybody gives way: a restart brings many changes


class Message(Protocol):
    """As much of a delivered message as the router looks at: the client's deliveries are such, too."""

    @property
    def routing_key(self) -> str: ...

    @property
    def body(self) -> bytes | memoryview: ...


class State(Enum):
    """Of a share, as this router sees it."""

    IDLE = auto()  # subscribed or about to be; somebody else is fed, or nobody
    FED = auto()
    WAITING = auto()  # fed, and what comes is held until the one before has released the share


class Step(Enum):
    """What is to be done with the broker about a share."""

    SUBSCRIBE = auto()
    CANCEL = auto()
    ASK = auto()  # a router whether it is there; `router_gone`: it is not
    RELEASED = auto()  # tell the others
    FED = auto()  # tell the others


class Task(NamedTuple):
    step: Step
    name: str  # of the share; of the router that is asked


@dataclass(slots=True)
class _Share:
    state: State = State.IDLE
    is_subscribed: bool = False
    is_yielding: bool = False
    holder: str = ""  # router that was fed last, as far as we were told
    wait_until: float = 0.0
    give_up_at: float = 0.0
    gave_way: int = 0  # times, since routers last came or went
    held: list[Message] = field(default_factory=list)


def preferred(share: str, routers: Iterable[str]) -> str:
    """Which of them should have that share: each answers alike, and one that comes or goes moves only its own shares."""
    return max(routers, key=lambda router: (blake2b(f"{share}\0{router}".encode(), digest_size=8).digest(), router))


class Shares:
    """Of one router. Without I/O; `tasks` says what is to be done."""

    def __init__(self, own: str, names: Sequence[str]) -> None:
        self.own = own
        self.dropped = 0  # held messages for which there was no room
        self.gave_way = 0  # shares that others should have
        self.handed_over = 0  # of these, such as were being passed on
        self.tasks: list[Task] = []
        self._shares = {name: _Share() for name in names}
        self._routers: dict[str, frozenset[str]] = {}  # others, with what they are subscribed to
        self._settled_at: float | None = None
        self._is_asked = False  # all others whether they are there

    # ---- the broker --------------------------------------------------------------------------------------------------

    def joined(self) -> None:
        """A connection is there, nothing is subscribed on it."""
        for name, share in self._shares.items():
            share.state, share.is_subscribed, share.is_yielding = State.IDLE, False, False
            self.tasks.append(Task(Step.SUBSCRIBE, name))

    def left(self) -> None:
        """The connection is gone; so is what was held, its order with it."""
        for share in self._shares.values():
            self.dropped += len(share.held)
            share.held.clear()
            share.state, share.is_subscribed, share.is_yielding, share.holder = State.IDLE, False, False, ""
        self._routers.clear()

    def subscribed(self, name: str) -> None:
        """The broker has put us behind the others for this share."""
        self._shares[name].is_subscribed = True

    def cancelled(self, name: str) -> Sequence[Message]:
        """The broker feeds us no more, and all it fed us before has come. Returns: what is to be passed on before all else."""
        share = self._shares[name]
        held, share.held = share.held, []
        was_fed = share.state is not State.IDLE
        share.state, share.is_subscribed, share.is_yielding = State.IDLE, False, False
        if was_fed:
            self.handed_over += 1
            self.tasks.append(Task(Step.RELEASED, name))
        self.gave_way += 1
        self.tasks.append(Task(Step.SUBSCRIBE, name))
        return held

    def received(self, name: str, messages: Sequence[Message], now: float) -> Sequence[Message]:
        """The broker feeds us. Returns: what may be passed on now."""
        share = self._shares[name]
        if share.state is State.IDLE:
            self._fed(name, share, now)
        if share.state is State.FED:
            return messages
        room = HELD_MOST - len(share.held)
        share.held += [overlay.Message(each.routing_key, None, bytes(each.body)) for each in messages[:room]]
        self.dropped += max(0, len(messages) - room)
        return ()

    # ---- the other routers -------------------------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """Whether something is held."""
        return any(share.state is State.WAITING for share in self._shares.values())

    @property
    def routers(self) -> Mapping[str, frozenset[str]]:
        """The others."""
        return self._routers

    def subscriptions(self) -> tuple[str, ...]:
        """To be told to the others."""
        return tuple(name for name, share in self._shares.items() if share.is_subscribed)

    def holder_of(self, name: str) -> str:
        """Which router is fed that share, as far as we know; "": nobody."""
        return self._shares[name].holder

    def fed(self) -> tuple[str, ...]:
        """Shares that this router passes on."""
        return tuple(name for name, share in self._shares.items() if share.state is not State.IDLE)

    def router_heard(self, router: str, subscriptions: Iterable[str], now: float) -> None:
        """Another one is there, subscribed to these shares."""
        shares = frozenset(subscriptions) & self._shares.keys()
        if self._routers.get(router) != shares:
            self._routers[router] = shares
            self._changed(now)

    def router_fed(self, router: str, name: str) -> None:
        """It passes on that share."""
        if (share := self._shares.get(name)) is not None:
            share.holder = router
            if share.state is State.FED:
                share.state = State.IDLE

    def router_released(self, router: str, name: str, now: float) -> Sequence[Message]:
        """It passes on that share no more. Returns: what may be passed on now."""
        share = self._shares.get(name)
        if share is None:
            return ()
        if share.holder == router:
            share.holder = ""
        return self._taken(name, share, now) if share.state is State.WAITING else ()

    def router_gone(self, router: str, now: float) -> Sequence[Message]:
        """It said good-bye, or nothing for long. Returns: what may be passed on now."""
        self._routers.pop(router, None)
        self._changed(now)
        released: list[Message] = []
        for name, share in self._shares.items():
            if share.holder == router:
                released += self.router_released(router, name, now)
        return released

    def _changed(self, now: float) -> None:
        self._look_again(now)
        for share in self._shares.values():
            share.gave_way = 0

    def _look_again(self, now: float) -> None:
        self._settled_at, self._is_asked = now + SETTLE_S, False

    # ---- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is wanted."""
        times = [share.wait_until for share in self._shares.values() if share.state is State.WAITING]
        if self._settled_at is not None:
            times.append(self._settled_at)
        return min(times, default=None)

    def handle_timeout(self, now: float) -> Sequence[Message]:
        """Returns: what may be passed on now: the one who was to release it says nothing, for too long."""
        released: list[Message] = []
        for name, share in self._shares.items():
            if share.state is not State.WAITING or share.wait_until > now:
                continue
            if share.holder in self._routers and now < share.give_up_at:
                share.wait_until = min(now + HANDOVER_S, share.give_up_at)
                self.tasks.append(Task(Step.ASK, share.holder))
            else:
                released += self._taken(name, share, now)
        if self._settled_at is not None and self._settled_at <= now:
            self._settle(now)
        return released

    def _settle(self, now: float) -> None:
        """Give way, but not to the dead: if all others go behind one that was killed, a share has nobody, and is deleted."""
        if self._routers and not self._is_asked:
            self._is_asked, self._settled_at = True, now + HANDOVER_S
            self.tasks += [Task(Step.ASK, router) for router in self._routers]
        else:
            self._settled_at = None
            self._give_way(now)

    def _give_way(self, now: float) -> None:
        """Go behind those who should have the share, where they wait for it."""
        for name, share in self._shares.items():
            if not share.is_subscribed or share.is_yielding or not self._is_anothers(name):
                continue
            if share.state is State.IDLE and share.holder:
                continue  # one after the other: were all behind the holder to go too, the next one might be fed in between
            if share.state is State.WAITING:
                self._look_again(now)  # what it holds would go out of turn
            elif share.gave_way < GIVE_WAY_MOST:
                share.gave_way += 1
                share.is_yielding = True
                self.tasks.append(Task(Step.CANCEL, name))

    def _is_anothers(self, name: str) -> bool:
        best = preferred(name, (self.own, *self._routers))
        return best != self.own and name in self._routers[best]

    def _fed(self, name: str, share: _Share, now: float) -> None:
        """Also where nobody is known to hold it: the one before may have been fed, and killed, before we could hear of it."""
        if self._routers:
            share.state = State.WAITING
            share.wait_until, share.give_up_at = now + HANDOVER_S, now + HANDOVER_MOST_S
        else:
            self._taken(name, share, now)

    def _taken(self, name: str, share: _Share, now: float) -> Sequence[Message]:
        held, share.held = share.held, []
        share.state, share.holder = State.FED, self.own
        self.tasks.append(Task(Step.FED, name))
        if self._is_anothers(name):
            self._look_again(now)  # the broker fed the one behind us, who is not the one either
        return held
