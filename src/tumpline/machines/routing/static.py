"""Routes as configured: the most specific pattern first, then the lowest priority number, then the order of addition."""

from __future__ import annotations

import msgspec

from tumpline.machines.plan import Pattern, Route
from tumpline.machines.routing._api import Reception, RoutingSpec
from tumpline.wire.eid import Eid


class StaticConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Nothing to configure: the routes themselves are [[routes]]."""


class StaticRouting:
    """A list sorted once a change, walked once a destination (the node keeps the answers)."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def add(self, route: Route) -> None:
        self.remove(route.pattern, route.via)
        self._routes.append(route)
        self._routes.sort(key=lambda item: item.priority)  # stable: equals stay in order of addition
        self._routes.sort(key=lambda item: item.pattern.specificity, reverse=True)

    def remove(self, pattern: Pattern, via: Eid) -> bool:
        before, name = len(self._routes), (str(pattern), via.node)
        self._routes = [item for item in self._routes if (str(item.pattern), item.via.node) != name]
        return len(self._routes) < before

    def routes(self) -> list[Route]:
        return list(self._routes)

    def next_hops(self, destination: Eid) -> list[Eid]:
        return list(dict.fromkeys(route.via.node for route in self._routes if route.pattern.matches(destination)))

    def reception(self, destination: Eid) -> Reception | None:  # noqa: ARG002
        return None


def _open(config: StaticConfig) -> StaticRouting:  # noqa: ARG001  (the seam's signature)
    return StaticRouting()


SPEC = RoutingSpec("static", "routes as configured, most specific pattern first", StaticConfig, _open)
