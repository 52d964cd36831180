"""Full stores do not lock each other up: bundles that wait for one another in a circle all arrive (ARCHITECTURE.md)."""

from __future__ import annotations

from random import Random

import pytest

from tumpline.machines.bpa import quota
from tumpline.machines.node import NodeConfig
from tumpline.machines.plan import Peer, Route
from tumpline.testing.world import SimNode, World
from tumpline.testing.world.wire import PERFECT, Wire
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

SEEDS = 36
# The slowest way out: a page of scouts of each queue for each of the longest pauses.
HANG_S = 6 * 3600.0
OVERHEAD_OCTETS = 200  # of a bundle beside its payload, at most
LIFETIME_S = 30 * 86_400.0


class Ring:
    """Nodes in a circle, each store filled by its own applications while the wires were pulled. Every bundle goes round
    the same way: each node waits for room at the next one."""

    def __init__(self, seed: int, *, nodes: int, quota_octets: int, most_octets: int, window: int, alike: bool) -> None:
        self.world = World(seed)
        self._chance: Random = self.world.chance("ring")
        self._most_octets = most_octets
        self._alike = alike  # all bundles of one length: no short one slips through where a long one waits
        self.nodes = [self._node(index, quota_octets, window) for index in range(nodes)]
        self.wires = [self._join(index) for index in range(nodes)]
        self._sent = 0
        for node in self.nodes:
            node.start()
        for index in range(nodes):
            self._fill(index)

    def _node(self, index: int, quota_octets: int, window: int) -> SimNode:
        config = NodeConfig(Eid.parse(f"dtn://n{index}/"), quota_octets=quota_octets, window_bundles=window)
        return SimNode(self.world, f"n{index}", config)

    def _join(self, index: int) -> Wire:
        node, after = self.nodes[index], self.nodes[(index + 1) % len(self.nodes)]
        wire = node.wires[after.name] = after.wires[node.name] = Wire(self.world, node, after, PERFECT)
        wire.set_up(False)
        node.peers.append(Peer(after.config.node_id, after.name, after.name))
        node.routes.append(Route(EidPattern.parse("dtn:**"), after.config.node_id))
        for other in self.nodes:
            if other not in (node, after):  # never straight back, though there is a wire
                node.routes.append(Route(EidPattern.parse(f"{other.config.node_id}**"), after.config.node_id, 1))
        return wire

    def _fill(self, index: int) -> None:
        """Until nothing more is taken, not even a short bundle."""
        for octets in (self._most_octets,) if self._alike else (self._most_octets, 1):
            refused = False
            while not refused:
                to = self.nodes[(index + self._chance.randrange(1, len(self.nodes))) % len(self.nodes)]
                before = len(self.world.promises.sent)
                size = octets if self._alike else self._chance.randint(1, octets)
                self.nodes[index].send(f"adu-{self._sent}", to, size, LIFETIME_S)
                self._sent += 1
                self.world.run(self.world.now + 0.1)
                refused = len(self.world.promises.sent) == before

    def drains(self) -> bool:
        """Whether, once the wires are plugged in, all that was promised arrives."""
        for wire in self.wires:
            wire.set_up(True)
        return self.world.run_until(lambda: not self.world.promises.missing(), HANG_S)


def ring(seed: int, nodes: int = 3, *, alike: bool | None = None) -> Ring:
    chance = Random(f"ring {seed}")
    if alike is None:
        alike = chance.random() < 0.5
    most_octets = chance.choice([20, 300, 1500])
    # Every bundle fits into a stair: that is what the promise is about.
    stairs = quota.STAIR_PART * (most_octets + OVERHEAD_OCTETS)
    quota_octets = chance.randint(stairs, 2 * stairs)
    window = chance.choice([1, 4, 64])
    return Ring(seed, nodes=nodes, quota_octets=quota_octets, most_octets=most_octets, window=window, alike=alike)


@pytest.mark.parametrize("part", range(6))
def test_three_full_stores_that_wait_for_each_other_all_drain(part: int) -> None:
    for seed in range(part, SEEDS, 6):
        one = ring(seed)
        held = [node.held_octets for node in one.nodes]
        assert all(octets > node.quota_octets * 0.6 for octets, node in zip(held, one.nodes, strict=True))
        assert one.drains(), f"seed {seed}: {len(one.world.promises.missing())} of {one._sent} never came"
        one.world.promises.settle()


@pytest.mark.parametrize("seed", range(6))
def test_a_circle_of_eight_drains_too(seed: int) -> None:
    one = ring(seed, nodes=8)
    assert one.drains(), f"{len(one.world.promises.missing())} of {one._sent} never came"


def test_without_stairs_they_lock_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "STAIRS", 0)
    monkeypatch.setattr(quota.Quota, "room", lambda self, _hops, **_: self.free)
    assert not all(ring(seed, nodes, alike=True).drains() for seed in range(4) for nodes in (3, 5))
