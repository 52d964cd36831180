"""Expectations of bundles: what must arrive, by which way, by when, and what must not."""

from __future__ import annotations

import statistics
import time
from typing import Annotated, Any, ClassVar

from msgspec import Meta, field

from tumpline.lab.agent_config import node_id
from tumpline.lab.expect._api import (
    AgentNode,
    Count,
    Endpoint,
    Expectation,
    Measured,
    Scene,
    Share,
    Wait,
    kind,
    seconds,
    threads,
)
from tumpline.lab.expect._bundles import endpoint_of, way_of
from tumpline.node.services._numbered import HEADER_OCTETS

_POLL_S = 0.1


@kind
class Ping(Expectation, frozen=True):
    """ADUs to an echo service come back."""

    kind: ClassVar[str] = "ping"
    in_world: ClassVar[bool] = True

    from_: AgentNode = field(name="from")
    to: Endpoint
    """A node (its echo service), or an endpoint."""
    within_s: Wait = field(name="within", default=10.0)
    """After the last was sent."""
    count: Count = 3
    interval_s: Wait = 0.2
    loss: Share = 0.0
    """Most that may stay unanswered."""
    rtt_ms: list[float] = []
    """Between which round trips the median lies."""

    @property
    def what(self) -> str:
        return f"ping {self.from_} -> {self.to}"

    @property
    def expected(self) -> str:
        lost = f", at most {self.loss:.0%} lost" if self.loss else ""
        between = f", median {self.rtt_ms[0]:g} to {self.rtt_ms[1]:g} ms" if self.rtt_ms else ""
        return f"{self.count} within {seconds(self.within_s)}{lost}{between}"

    def measure(self, scene: Scene) -> Measured:
        to = endpoint_of(scene.file, self.to, "echo")
        rtts_ms = scene.ping(self.from_, to, self.count, self.interval_s, self.within_s)
        if not rtts_ms:
            return Measured("no answer", self.loss == 1)
        median = statistics.median(rtts_ms)
        fits = not self.rtt_ms or self.rtt_ms[0] <= median <= self.rtt_ms[1]
        enough = len(rtts_ms) >= self.count * (1 - self.loss)
        return Measured(f"{len(rtts_ms)} of {self.count}, median {seconds(median / 1000)}", fits and enough)

    def __post_init__(self) -> None:
        if self.rtt_ms and (len(self.rtt_ms) != 2 or self.rtt_ms[0] > self.rtt_ms[1]):
            raise ValueError("rtt_ms: these are no two bounds; write for example [5, 30]")


class _Transfer(Expectation, frozen=True):
    from_: AgentNode = field(name="from")
    to: AgentNode
    count: Count = 1
    size: Annotated[int, Meta(ge=HEADER_OCTETS, le=1 << 30)] = 100
    """Octets of each."""

    @property
    def _sent(self) -> str:
        return f"{self.count} x {self.size} octets {self.from_} -> {self.to}"


@kind
class Deliver(_Transfer, frozen=True):
    """ADUs arrive: all, unharmed, each once, in time, and by the way that they should take."""

    kind: ClassVar[str] = "deliver"
    in_world: ClassVar[bool] = True

    within_s: Wait = field(name="within", default=60.0)
    not_before_s: float = field(name="not_before", default=0.0)
    """The first comes no earlier: something must open before."""
    route: list[AgentNode] = []
    """Every node on the way, from the first to the last, as their status reports tell."""

    @property
    def what(self) -> str:
        return f"deliver {self._sent}"

    @property
    def expected(self) -> str:
        after = f"after {seconds(self.not_before_s)}, " if self.not_before_s else ""
        return f"{after}within {seconds(self.within_s)}" + (f", by {' '.join(self.route)}" if self.route else "")

    def measure(self, scene: Scene) -> Measured:
        if not self.route:
            return self._arrived(scene)
        with threads(1) as pool:
            # A bundle that tells its way goes with the others: later the way may be another.
            way = pool.submit(way_of, scene.lab, self.from_, self.to, self.within_s, self.route)
            arrived = self._arrived(scene)
            nodes = way.result()
        return Measured(f"{arrived.text}, by {' '.join(nodes)}", arrived.ok and nodes == self.route)

    def _arrived(self, scene: Scene) -> Measured:
        found = scene.transfer(self.from_, self.to, self.count, self.size, self.within_s)
        if found.first_s is None or found.last_s is None:
            return Measured("nothing came", False)
        text = f"{found.came} came after {seconds(found.first_s)}"
        text += f" to {seconds(found.last_s)}" if self.count > 1 else ""
        text += f", {found.damaged} damaged" if found.damaged else ""
        return Measured(text, found.came == self.count and not found.damaged and found.first_s >= self.not_before_s)


@kind
class NotDelivered(_Transfer, frozen=True):
    """ADUs do not arrive for so long."""

    kind: ClassVar[str] = "not_delivered"
    in_world: ClassVar[bool] = True

    for_s: Wait = field(name="for", default=3.0)

    @property
    def what(self) -> str:
        return f"not delivered: {self._sent}"

    @property
    def expected(self) -> str:
        return f"nothing for {seconds(self.for_s)}"

    def measure(self, scene: Scene) -> Measured:
        found = scene.transfer(self.from_, self.to, self.count, self.size, self.for_s)
        return Measured(f"{found.came} came" if found.came else "nothing came", not found.came)


@kind
class Kept(Expectation, frozen=True):
    """A node keeps bundles in its store."""

    kind: ClassVar[str] = "kept"

    node: AgentNode
    bundles: Annotated[int, Meta(ge=0)] = 1
    """So many at least; 0: none."""
    within_s: Wait = field(name="within", default=10.0)

    @property
    def what(self) -> str:
        return f"kept by {self.node}"

    @property
    def expected(self) -> str:
        return f"at least {self.bundles} within {seconds(self.within_s)}" if self.bundles else "nothing"

    def measure(self, scene: Scene) -> Measured:
        end = time.monotonic() + self.within_s
        with scene.lab.client(self.node) as agent:
            while True:
                held = int(agent.get("/v1/status")["store"]["bundles"])
                ok = held >= self.bundles if self.bundles else held == 0
                if ok or time.monotonic() > end:
                    return Measured(f"{held} bundles", ok)
                time.sleep(_POLL_S)


@kind
class Peers(Expectation, frozen=True):
    """A node has sessions with others."""

    kind: ClassVar[str] = "peers"

    node: AgentNode
    up: list[AgentNode]
    security: str = ""
    """Such as TLSv1.3."""
    within_s: Wait = field(name="within", default=10.0)

    @property
    def what(self) -> str:
        return f"sessions of {self.node}"

    @property
    def expected(self) -> str:
        return f"with {' '.join(self.up)}{' over ' if self.security else ''}{self.security} within {seconds(self.within_s)}"

    def measure(self, scene: Scene) -> Measured:
        wanted = {node_id(scene.file, each) for each in self.up}
        end = time.monotonic() + self.within_s
        with scene.lab.client(self.node) as agent:
            while True:
                found = {peer["id"]: peer for peer in agent.get("/v1/peers")["peers"] if peer["state"] == "up"}
                ok = wanted <= {name for name, peer in found.items() if self._is_secured(peer)}
                if ok or time.monotonic() > end:
                    told = ", ".join(f"{name} {peer['security'] or 'plain'}" for name, peer in found.items())
                    return Measured(told or "none", ok)
                time.sleep(_POLL_S)

    def _is_secured(self, peer: dict[str, Any]) -> bool:
        return not self.security or (peer["security"] == self.security and bool(peer["authenticated"]))
