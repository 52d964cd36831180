"""What the parts of one machine share: calls under way, effects, deadlines, and what the agent is known to be able to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

from tumpline.machines.bpa.timers import Timers
from tumpline.machines.dbus_cl.effects import CALL_S, Call, Effect, Failure, Noticed, UnitsAcked, Way
from tumpline.machines.effects import RefuseReason

INTROSPECTABLE: Final = "org.freedesktop.DBus.Introspectable"
_METHOD: Final = re.compile(r"<method\s+name\s*=\s*[\"']([A-Za-z0-9_]{1,255})[\"']")
# An agent's description has some thousand characters; a longer one is somebody's joke.
XML_MOST: Final = 1 << 20

Replied = Callable[[tuple[Any, ...], float], None]
Failed = Callable[[Failure, float], None]


class Config(NamedTuple):
    """What a machine is told before it begins. Octets, seconds."""

    link: str  # the link's name, for paths
    trusting: bool  # what a peer claims to be counts without proof
    units_most: int = 512  # handed to one contact and not ended: the older agent keeps them all in memory
    octets_most: int = 32 << 20
    takes_most: int = 512  # received bundles of one contact on their way from the agent into the store
    take_octets_most: int = 48 << 20  # of all these together, held in memory
    mru_octets: int = 1 << 40
    stall_s: float = 120.0  # without any sign of life of a contact that has something to send
    retry_s_first: float = 0.25
    retry_s_max: float = 30.0


class Taker(Protocol):
    """Who fetches received bundles; each is known by its token."""

    def popped(self, token: int, octets: int) -> None:
        """Its octets are here; the agent has forgotten it."""

    def no_room(self, token: int, now: float) -> None:
        """The node cannot take it now. What was not fetched stays the agent's."""

    def acknowledged(self, token: int, now: float) -> None:
        """The node keeps it."""

    def refused(self, token: int, reason: RefuseReason, now: float) -> None:
        """The node does not keep it: not now, or never."""

    def pump(self, now: float) -> None:
        """Fetch as many as there is room for."""


class Core:
    """One machine's heart."""

    def __init__(self, config: Config, random: Callable[[], float], new_path: Callable[[], int]) -> None:
        self.config = config
        self.random = random
        self.new_path = new_path
        self.timers = Timers()
        self.effects: list[Effect] = []
        self.is_attached = False
        self.has_same_user = False  # the agent can open our files
        self.methods: dict[str, frozenset[str]] = {}  # of objects of the agent, by interface; "" while unknown
        self.lacking: set[str] = set()  # methods that turned out not to be there
        self.takers: dict[int, Taker] = {}  # by token
        self.taken_octets = 0  # of received bundles, in memory
        self.hungry: dict[Taker, None] = {}  # wait for memory
        self._tokens = count(1)
        self._calls: dict[int, tuple[Replied, Failed]] = {}

    # ---- calls -------------------------------------------------------------------------------------------------------

    def token(self) -> int:
        """A number never used before."""
        return next(self._tokens)

    def expect(self, token: int, replied: Replied, failed: Failed) -> None:
        """Whom to tell how this ended."""
        self._calls[token] = replied, failed

    def call(
        self,
        path: str,
        interface: str,
        member: str,
        replied: Replied,
        failed: Failed,
        signature: str = "",
        arguments: tuple[Any, ...] = (),
        timeout_s: float = CALL_S,
    ) -> None:
        """Call a method of the agent."""
        token = self.token()
        self.expect(token, replied, failed)
        self.effects.append(Call(token, path, interface, member, signature, arguments, timeout_s))

    def tell(self, path: str, interface: str, member: str, signature: str = "", *arguments: Any) -> None:
        """Call a method whose answer changes nothing."""
        self.call(path, interface, member, _pass_over, _pass_over_failure, signature, arguments)

    def replied(self, token: int, values: tuple[Any, ...], now: float) -> None:
        """A call has its answer."""
        call = self._calls.pop(token, None)
        if call is not None:
            call[0](values, now)

    def failed(self, token: int, failure: Failure, now: float) -> None:
        """A call came to nothing."""
        call = self._calls.pop(token, None)
        if call is not None:
            call[1](failure, now)

    def settled(self, token: int) -> None:
        """Neither answer nor failure will be told of this one: it has ended otherwise."""
        self._calls.pop(token, None)

    @property
    def calls(self) -> int:
        """How many are under way."""
        return len(self._calls)

    # ---- what the agent can do ---------------------------------------------------------------------------------------

    def learn(self, interface: str, xml: str) -> None:
        """The agent has described one of its objects."""
        self.methods[interface] = frozenset(_METHOD.findall(xml[:XML_MOST]))

    def can(self, interface: str, method: str) -> bool:
        """Whether the agent has it, as far as anybody knows."""
        return method in self.methods.get(interface, ()) and method not in self.lacking

    def way(self, interface: str, prefix: str, octets: int, most: int) -> Way:
        """How a bundle of so many octets (-1: unknown) crosses best."""
        if 0 <= octets <= most:
            return Way.DATA
        if self.can(interface, prefix + Way.FD.value):
            return Way.FD
        if self.has_same_user and self.can(interface, prefix + Way.FILE.value):
            return Way.FILE
        return Way.DATA

    def forget_agent(self) -> None:
        """Another one may come in its place."""
        self.is_attached = False
        self.methods.clear()
        self.lacking.clear()

    # ---- memory of received bundles ----------------------------------------------------------------------------------

    def fits(self, octets: int) -> bool:
        """Whether so many more octets may be fetched into memory; one alone always may."""
        return not self.taken_octets or self.taken_octets + octets <= self.config.take_octets_most

    def give_back(self, octets: int, now: float) -> None:
        """So many octets are not in memory any more: whoever waited for that goes on."""
        self.taken_octets -= octets
        if octets and self.hungry:
            hungry, self.hungry = self.hungry, {}
            for taker in hungry:
                taker.pump(now)

    # ---- effects -----------------------------------------------------------------------------------------------------

    def acked(self, path: int, seq: int) -> None:
        """One more unit is through; those of one turn are told together."""
        last = self.effects[-1] if self.effects else None
        if isinstance(last, UnitsAcked) and last.path == path:
            last.seqs.append(seq)
        else:
            self.effects.append(UnitsAcked(path, [seq]))

    def notice(self, name: str, **fields: Any) -> None:
        self.effects.append(Noticed(name, fields))


def _pass_over(values: tuple[Any, ...], now: float) -> None:
    pass


def _pass_over_failure(failure: Failure, now: float) -> None:
    pass
