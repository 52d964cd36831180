"""Any order of losses, refusals, flapping paths, full windows and restarts: nothing is lost, nothing is leaked."""

import random
from typing import Any

import pytest

from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu, Forward, Outcome, RefuseReason, Unit
from tumpline.machines.plan import Route
from tumpline.testing.lone_node import DictStore, LoneNode, bundle, whole
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

PEERS = ("dtn://one/", "dtn://two/", "dtn://three/")
CONFIG: dict[str, Any] = {"window_bundles": 7, "retry_s_min": 0.5, "retry_s_max": 4.0}
REASONS = (RefuseReason.NO_RESOURCES, RefuseReason.RETRANSMIT, RefuseReason.COMPLETED)


class Chaos:
    """A node between three neighbours that behave badly."""

    def __init__(self, seed: int, slow_store: bool) -> None:
        self.chance = random.Random(seed)
        self.slow_store = slow_store
        self.node = self.started(DictStore())
        self.paths: dict[int, str] = {}
        self.flying: dict[int, dict[int, Unit]] = {}
        self.last_path = 0
        self.sequence = 0
        self.transfers: dict[int, int] = {}  # what it was given
        self.promised: set[int] = set()  # sequences that the node acknowledged
        self.arrived: list[int] = []  # that a neighbour or the service took

    def started(self, store: DictStore) -> LoneNode:
        node = LoneNode(store=store, **CONFIG)
        for via in PEERS:
            node.machine.add_route(Route(EidPattern.parse("dtn://far/**"), Eid.parse(via)), 0.0)
        node.machine.register("s", "s", 0.0)
        node.start()
        node.hold_store = self.slow_store
        return node

    def step(self) -> None:
        self.chance.choice(
            (
                self.receive,
                self.receive,
                self.receive,
                self.up,
                self.down,
                self.answer,
                self.answer,
                self.answer,
                self.wait,
            )
        )()
        if self.chance.random() < 0.6:
            self.node.answer_store(self.chance.randint(1, 3))
        self.drain()

    def drain(self) -> None:
        self.promised |= {self.transfers[transfer] for transfer in self.node.acknowledged()}
        for effect in self.node.took(Forward):
            for unit in effect.units:
                assert unit.seq not in self.flying[effect.path], "offered twice on one path"
                assert all(unit.seq not in other for other in self.flying.values()), "under way to two neighbours"
                self.flying[effect.path][unit.seq] = unit
        for delivery in self.node.deliveries("s"):
            if self.chance.random() < 0.3:
                self.node.machine.delivery_failed("s", delivery.seq, 0.2, self.node.now)
            else:
                self.arrived.append(delivery.sequence)
                self.node.machine.delivered("s", [(delivery.seq, Outcome())], self.node.now)
        self.node.settle()

    def receive(self) -> None:
        if not self.paths:
            return
        path = self.chance.choice(sorted(self.paths))
        for _ in range(self.chance.randint(1, 5)):
            self.sequence += 1
            to = self.chance.choice(("dtn://far/x", "dtn://far/y", "dtn://two/z", "dtn://here/s"))
            if to.startswith(self.paths[path]):
                continue  # it would have to go back where it came from
            self.transfers[self.node.next_transfer] = self.sequence
            self.node.receive(path, bundle("dtn://src/x", to, sequence=self.sequence, lifetime_ms=10**9))

    def up(self) -> None:
        if len(self.paths) < 4:
            self.last_path += 1
            peer = self.chance.choice(PEERS)
            self.paths[self.last_path] = peer
            self.flying[self.last_path] = {}
            self.node.path_up(self.last_path, peer)

    def down(self) -> None:
        if self.paths and self.chance.random() < 0.5:
            path = self.chance.choice(sorted(self.paths))
            self.node.lost(path, *self.flying[path].values())
            self.flying[path].clear()
            self.drain()
            del self.paths[path]
            self.node.path_down(path)

    def answer(self) -> None:
        busy = [path for path in sorted(self.paths) if self.flying[path]]
        if not busy:
            return
        path = self.chance.choice(busy)
        flying = self.flying[path]
        units = [flying.pop(seq) for seq in self.chance.sample(sorted(flying), self.chance.randint(1, len(flying)))]
        if self.chance.random() < 0.3:
            reason = self.chance.choice(REASONS)
            if reason is RefuseReason.COMPLETED:
                self.arrived.append(whole(units[0]).primary.sequence)
            self.node.refused(path, units[0], reason)
            units = units[1:]
        self.arrived += [whole(unit).primary.sequence for unit in units]
        self.node.acked(path, *units)

    def wait(self) -> None:
        self.node.run_until(self.node.now + self.chance.random() * 3)

    def restart(self) -> None:
        """The process ends and starts again over what the store kept."""
        now = self.node.now
        self.drain()
        self.transfers.clear()
        self.node = self.started(self.node.store)
        self.node.now = now
        self.paths.clear()
        self.flying.clear()

    def converge(self) -> None:
        """The faults stop: everything must leave."""
        self.slow_store = False
        self.node.release_store()
        for peer in PEERS:
            self.last_path += 1
            self.paths[self.last_path] = peer
            self.flying[self.last_path] = {}
            self.node.path_up(self.last_path, peer)
        for _ in range(400):
            self.drain()
            for path, flying in self.flying.items():
                units = list(flying.values())
                flying.clear()
                self.arrived += [whole(unit).primary.sequence for unit in units]
                if units:
                    self.node.acked(path, *units)
            if not self.node.store.bundles:
                break
            self.node.run_until(self.node.now + 1)


@pytest.mark.parametrize("slow_store", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_and_nothing_is_leaked(seed: int, slow_store: bool) -> None:
    chaos = Chaos(seed, slow_store)
    for number in range(150):
        chaos.step()
        if number == 100:
            chaos.restart()
    chaos.converge()
    assert not chaos.node.store.bundles
    assert chaos.promised
    assert chaos.promised <= set(chaos.arrived)
    shown = chaos.node.machine.snapshot(chaos.node.now)
    assert shown["store"]["octets"] == 0
    assert not shown["queues"]


def test_an_adu_storm_through_a_flapping_path_stays_in_order() -> None:
    node = LoneNode(window_bundles=5).start()
    node.machine.originate([Adu(Eid.parse("dtn://b/x"), Octets(b"%d" % n), "me") for n in range(60)], 0.0)
    node.settle()
    seen: list[int] = []
    for path in range(1, 100):
        node.path_up(path, "dtn://b/")
        units = node.forwarded(path)
        if not units:
            break
        seen += [int(whole(unit).payload) for unit in units[:3]]
        node.acked(path, *units[:3])
        node.lost(path, *units[3:], *node.forwarded(path))
        node.path_down(path)
    assert seen == list(range(60))
