"""Routes of the older agent: regular expressions on the destination's text, in order; the first that matches decides.

Patterns are matched from the start of the text, not to its end (`re.match`). Routes that come while the node runs (by
command, or learned) are asked where no entry of the table matches.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from tumpline.machines.plan import Pattern, Route
from tumpline.machines.routing._api import Reception, RoutingSpec
from tumpline.machines.routing._regex import MAX_TEXT, compile_bounded
from tumpline.machines.routing.static import StaticRouting
from tumpline.wire.eid import Eid

MAX_KNOWN = 4096  # destinations whose treatment is remembered: strangers choose destinations


class _Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    match: Annotated[str, Meta(extra={"check": compile_bounded})]
    """Regular expression, matched from the start of the destination's text."""


class ReceiveRule(_Entry, frozen=True):
    """What is done with bundles from elsewhere."""

    action: Reception


class SendRule(_Entry, frozen=True):
    """Whom bundles go to."""

    via: Eid
    """The neighbour's node ID."""


class RegexTableConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Two tables, the first match of each decides."""

    receive: list[ReceiveRule] = []
    """What is done with bundles from elsewhere. Default: those for this node are delivered, others forwarded."""
    send: list[SendRule] = []
    """Whom bundles go to; destinations without a match go by [[routes]]."""


class _Rule(NamedTuple):
    """A compiled entry; as `Route.pattern` only shown."""

    regex: re.Pattern[str]

    @property
    def specificity(self) -> tuple[int, int]:
        return (0, 0)  # the order of the table decides

    def matches(self, eid: Eid) -> bool:
        """`re.match` on the text, which has to be short enough for that."""
        text = str(eid)
        return len(text) <= MAX_TEXT and self.regex.match(text) is not None

    def __str__(self) -> str:
        return f"re:{self.regex.pattern}"


class RegexTable:
    """Both tables, and static routes behind them."""

    def __init__(self, config: RegexTableConfig) -> None:
        self._receive = [(_Rule(compile_bounded(each.match)), each.action) for each in config.receive]
        self._send = [Route(_Rule(compile_bounded(each.match)), each.via) for each in config.send]
        self._added = StaticRouting()
        self._known: dict[Eid, Reception | None] = {}

    def add(self, route: Route) -> None:
        self._added.add(route)

    def remove(self, pattern: Pattern, via: Eid) -> bool:
        return self._added.remove(pattern, via)

    def routes(self) -> list[Route]:
        return [*self._send, *self._added.routes()]

    def next_hops(self, destination: Eid) -> list[Eid]:
        first = next((route.via.node for route in self._send if route.pattern.matches(destination)), None)
        others = self._added.next_hops(destination)
        return others if first is None else list(dict.fromkeys([first, *others]))

    def reception(self, destination: Eid) -> Reception | None:
        if not self._receive:
            return None
        if destination not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[destination] = self._decide(destination)
        return self._known[destination]

    def _decide(self, destination: Eid) -> Reception | None:
        if len(str(destination)) > MAX_TEXT:  # no entry is asked: it must not pass by one that deletes
            return Reception.DELETE
        return next((action for rule, action in self._receive if rule.matches(destination)), None)


SPEC = RoutingSpec(
    "regex_table", "regular expressions in order, as the older agent has them", RegexTableConfig, RegexTable
)
