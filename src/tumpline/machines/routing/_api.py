"""The seam of routing strategies: which neighbours lead to a destination. One module here = one strategy; SPEC at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from tumpline.machines.plan import Route
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern


class Strategy(Protocol):
    """Knows routes, not whether they are up: the node takes the first next hop that it can reach."""

    def add(self, route: Route) -> None:
        """A route is there (again: it replaces the one with the same pattern and `via`)."""

    def remove(self, pattern: EidPattern, via: Eid) -> bool:
        """The route with this pattern and `via` is gone. Returns whether it was there."""

    def routes(self) -> list[Route]:
        """All routes, in the order in which they are considered."""

    def next_hops(self, destination: Eid) -> list[Eid]:
        """Node IDs to hand a bundle for `destination` to, best first, without repetition."""


class RoutingSpec(NamedTuple):
    """The last line of a strategy's module: `SPEC = RoutingSpec(...)`."""

    scheme: str
    summary: str
    config: type[Any]
    open: Callable[[Any], Strategy]
