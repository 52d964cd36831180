"""The seam of routing strategies: which neighbours lead to a destination. One module here = one strategy; SPEC at its end."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple, Protocol

from tumpline.machines.plan import Pattern, Route
from tumpline.wire.eid import Eid


class Reception(Enum):
    """What is done with a bundle that came from elsewhere."""

    DELIVER = "deliver"  # as if its destination were an endpoint of this node
    FORWARD = "forward"  # as if it were none
    DELETE = "delete"


class Strategy(Protocol):
    """Knows routes, not whether they are up: the node takes the first next hop that it can reach."""

    def add(self, route: Route) -> None:
        """A route is there (again: it replaces the one with the same pattern and `via`)."""

    def remove(self, pattern: Pattern, via: Eid) -> bool:
        """The route with this pattern and `via` is gone. Returns whether it was there."""

    def routes(self) -> list[Route]:
        """All routes, in the order in which they are considered."""

    def next_hops(self, destination: Eid) -> list[Eid]:
        """Node IDs to hand a bundle for `destination` to, best first, without repetition."""

    def reception(self, destination: Eid) -> Reception | None:
        """What is done with bundles for it that come from elsewhere; None: this node's own are delivered, others
        forwarded. It does not change; node IDs of this node itself are always its own."""


class RoutingSpec(NamedTuple):
    """The last line of a strategy's module: `SPEC = RoutingSpec(...)`."""

    scheme: str
    summary: str
    config: type[Any]
    open: Callable[[Any], Strategy]
