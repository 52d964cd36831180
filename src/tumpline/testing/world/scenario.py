"""A random network and a random fate for it, from nothing but a seed; then faults stop and all must converge."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from tumpline.machines.impairment import Impairment
from tumpline.machines.node import NodeConfig
from tumpline.machines.plan import Contact, Peer, Route
from tumpline.testing.world.node import SimNode
from tumpline.testing.world.simulation import World
from tumpline.testing.world.wire import PERFECT, STREAM_QUEUE_OCTETS, Faults, Wire
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

# Long enough for several contacts, back-offs and keepalive losses; each costs real milliseconds.
TROUBLE_S = 120.0
# After the trouble every promise must be kept within this time: the longest back-off is a minute.
PEACE_S = 3600.0
# Where stores are small: so many octets, and ADUs that fit into a stair of such a quota (tumpline.machines.bpa.quota), many
# enough to fill it.
SMALL_QUOTA_OCTETS = 40_000
SMALL_ADU_OCTETS = (20, 100, 1000)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large and how hostile a scenario is; drawn from the seed."""

    nodes: int
    extra_wires: int
    adus: int
    faults: Faults
    crashes: int
    pulls: int
    planned: float  # share of wires that are open in planned windows only
    sync_s: float
    quota_octets: int | None  # None: more than they can fill

    @classmethod
    def draw(cls, chance: random.Random) -> Shape:
        faults = Faults(
            Impairment(
                delay_s=chance.choice([0.001, 0.05, 1.3]),
                jitter_s=chance.choice([0.0, 0.02]),
                rate_bps=chance.choice([160e3, 8e6, 400e6]),
                queue_octets=STREAM_QUEUE_OCTETS,
            ),
            resets_per_s=chance.choice([0.0, 0.02, 0.2]),
            stalls_per_s=chance.choice([0.0, 0.02]),
            chunk_octets=chance.choice([61, 1000, 1 << 16]) if chance.random() < 0.3 else 1 << 16,
        )
        shape = cls(
            nodes=chance.randint(2, 5),
            extra_wires=chance.randint(0, 2),
            adus=chance.randint(5, 40),
            faults=faults,
            crashes=chance.randint(0, 4),
            pulls=chance.randint(0, 4),
            planned=chance.choice([0.0, 0.0, 0.5, 1.0]),
            sync_s=chance.choice([0.001, 0.02, 0.5]),
            quota_octets=None,
        )
        if chance.random() < 0.2:
            return replace(shape, quota_octets=SMALL_QUOTA_OCTETS, adus=10 * shape.adus)
        return shape


class Scenario:
    """Build it, live through it, settle it: `Scenario(seed).run()` raises BrokenPromiseError if a promise is broken."""

    def __init__(self, seed: int, node_type: type[SimNode] = SimNode) -> None:
        self.world = World(seed)
        self._chance = self.world.chance("scenario")
        self.shape = Shape.draw(self._chance)
        self.nodes = [self._node(node_type, index) for index in range(self.shape.nodes)]
        self.wires: list[Wire] = []
        self._wire_up()
        self._route()
        self._trouble()

    def run(self) -> World:
        """The whole life of it."""
        for node in self.nodes:
            node.start()
        self.world.run(TROUBLE_S)
        self._make_peace()
        self.world.run_until(lambda: not self.world.promises.missing(), PEACE_S)
        self.world.promises.settle()
        # What could still arrive twice has a minute more to do so.
        self.world.run(self.world.now + 60)
        return self.world

    # ---- the network --------------------------------------------------------------------------------------------------

    def _node(self, node_type: type[SimNode], index: int) -> SimNode:
        text = f"dtn://n{index}/" if self._chance.random() < 0.7 else f"ipn:{index + 10}.0"
        config = NodeConfig(Eid.parse(text))
        if self.shape.quota_octets is not None:
            config = replace(config, quota_octets=self.shape.quota_octets)
        return node_type(self.world, f"n{index}", config, sync_s=self.shape.sync_s)

    def _wire_up(self) -> None:
        """A random tree, and some wires more."""
        for index in range(1, len(self.nodes)):
            self._connect(self._chance.randrange(index), index)
        for _ in range(self.shape.extra_wires):
            a, b = self._chance.sample(range(len(self.nodes)), 2)
            if self.nodes[b].name not in self.nodes[a].wires:
                self._connect(a, b)

    def _connect(self, index_a: int, index_b: int) -> None:
        a, b = self.nodes[index_a], self.nodes[index_b]
        wire = Wire(self.world, a, b, self.shape.faults)
        a.wires[b.name] = b.wires[a.name] = wire
        self.wires.append(wire)
        a.peers.append(Peer(b.config.node_id, b.name, b.name))
        if self._chance.random() < self.shape.planned:
            self._plan(a, b)

    def _plan(self, a: SimNode, b: SimNode) -> None:
        """Some windows during the trouble, and one that never ends after it. Only the caller keeps a plan."""
        begin = self.world.dtn_ms()
        rate = self._chance.choice([None, 64_000, 8_000_000])
        for _ in range(self._chance.randint(1, 5)):
            start = begin + self._chance.randint(0, int(TROUBLE_S * 1000))
            a.contacts.append(Contact(b.config.node_id, start, self._chance.randint(500, 30_000), rate))
        a.contacts.append(Contact(b.config.node_id, begin + int(TROUBLE_S * 1000), None))

    def _route(self) -> None:
        """At every node towards every other: all neighbours that are nearer to it, so that no bundle runs in circles."""
        for to in self.nodes:
            distance = self._distances(to)
            for node in self.nodes:
                nearer = [n for n in self._neighbours(node) if distance[n.name] < distance[node.name]]
                pattern = EidPattern.parse(_all_of(to.config.node_id))
                node.routes += [Route(pattern, n.config.node_id, 10 + i) for i, n in enumerate(nearer)]

    def _neighbours(self, node: SimNode) -> list[SimNode]:
        return [wire.other(node) for wire in node.wires.values()]

    def _distances(self, to: SimNode) -> dict[str, int]:
        distance = {to.name: 0}
        queue = deque([to])
        while queue:
            node = queue.popleft()
            for other in self._neighbours(node):
                if other.name not in distance:
                    distance[other.name] = distance[node.name] + 1
                    queue.append(other)
        return distance

    # ---- its fate -----------------------------------------------------------------------------------------------------

    def _trouble(self) -> None:
        world, chance = self.world, self._chance
        for number in range(self.shape.adus):
            world.at(chance.uniform(0, TROUBLE_S), self._send(number))
        for _ in range(self.shape.crashes):
            when, node = chance.uniform(1, TROUBLE_S - 10), chance.choice(self.nodes)
            world.at(when, partial(_crash, node))
            world.at(when + chance.uniform(0.01, 9), partial(_start, node))
        for _ in range(self.shape.pulls):
            when, wire = chance.uniform(0, TROUBLE_S - 10), chance.choice(self.wires)
            world.at(when, partial(wire.set_up, False))
            world.at(when + chance.uniform(0.1, 30), partial(wire.set_up, True))

    def _send(self, number: int) -> Callable[[], None]:
        source, to = self._chance.sample(self.nodes, 2)
        sizes = (20, 100, 1000, 30_000, 150_000) if self.shape.quota_octets is None else SMALL_ADU_OCTETS
        octets = self._chance.choice(sizes)
        lifetime_s = self._chance.choice([5.0, 60.0, 86_400.0, 86_400.0])

        def send() -> None:
            if source.is_up:
                source.send(f"adu-{number}", to, octets, lifetime_s)

        return send

    def _make_peace(self) -> None:
        for wire in self.wires:
            wire.faults = PERFECT
            wire.set_up(True)
        for node in self.nodes:
            _start(node)


def _crash(node: SimNode) -> None:
    if node.is_up:
        node.crash()


def _start(node: SimNode) -> None:
    if not node.is_up:
        node.start()


def _all_of(node: Eid) -> str:
    """The pattern of every endpoint of a node."""
    if node.scheme == 2:
        return str(node).rsplit(".", 1)[0].replace("ipn:", "ipn:0.") + ".*"
    return f"{node}**"
