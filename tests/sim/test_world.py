"""Random networks under random faults keep their promises; planted defects are found; the same seed tells the same story."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tumpline.drivers.stores._api import Done
from tumpline.machines import effects as fx
from tumpline.machines.node import NodeConfig, NodeMachine
from tumpline.machines.plan import Peer, Route
from tumpline.machines.storage import Add, AddResult, Operation, Remember, Results
from tumpline.testing.lossy_store import LossyStore
from tumpline.testing.world import BrokenPromiseError, SimNode, World
from tumpline.testing.world.scenario import Scenario
from tumpline.testing.world.wire import PERFECT, Wire
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

SEEDS = 500
SLICES = 20


def two_nodes(world: World) -> tuple[SimNode, SimNode]:
    a = SimNode(world, "a", NodeConfig(Eid.parse("dtn://a/")))
    b = SimNode(world, "b", NodeConfig(Eid.parse("dtn://b/")))
    a.wires["b"] = b.wires["a"] = Wire(world, a, b, PERFECT)
    a.peers.append(Peer(b.config.node_id, "b", "b"))
    a.routes.append(Route(EidPattern.parse("dtn://b/**"), b.config.node_id))
    return a, b


def test_one_adu_from_one_node_to_the_other() -> None:
    world = World(1)
    a, b = two_nodes(world)
    a.start()
    b.start()
    a.send("hello", b)
    assert world.run_until(lambda: b.has_delivered("hello"), 10)
    world.run(20)
    world.promises.settle()
    assert world.promises.delivered == {"hello": 1}
    assert a.held_octets == b.held_octets == 0


@pytest.mark.parametrize("part", range(SLICES))
def test_random_networks_keep_their_promises(part: int) -> None:
    delivered = 0
    for seed in range(part, SEEDS, SLICES):
        delivered += sum(Scenario(seed).run().promises.delivered.values())
    assert delivered > 0


# ---- planted defects: a check that cannot fail proves nothing --------------------------------------------------------


class ForgetfulStore(LossyStore):
    """Defect: it takes every bundle for new and remembers no delivery."""

    def submit(self, operations: Sequence[Operation], done: Done) -> None:
        kept = [op for op in operations if not isinstance(op, Remember)]
        for number, operation in enumerate(kept):
            if isinstance(operation, Add):
                key = operation.bundle.key + operation.bundle.seq.to_bytes(8, "big")
                kept[number] = Add(operation.bundle._replace(key=key, adu_key=key))

        def answer(results: Results | None, error: Exception | None) -> None:
            given = iter(results or [])
            all_results = [None if isinstance(op, Remember) else next(given) for op in operations]
            done(all_results if results is not None else None, error)

        super().submit(kept, answer)


class ForgetfulNode(SimNode):
    def __init__(self, world: World, name: str, config: NodeConfig, *, sync_s: float = 0.005) -> None:
        super().__init__(world, name, config, sync_s=sync_s)
        self.store = ForgetfulStore(world.after, sync_s)


class LateMachine(NodeMachine):
    """Defect: a timer that was due is left standing."""

    def handle_timeout(self, now: float) -> None:
        due = self.next_timeout()
        super().handle_timeout(now)
        self._late = due

    def next_timeout(self) -> float | None:
        late: float | None = getattr(self, "_late", None)
        return late if late is not None else super().next_timeout()


class LateNode(SimNode):
    machine_type = LateMachine


class HastyNode(SimNode):
    """Defect: it acknowledges (and tells its applications "stored") before the store has synced."""

    def _transact(self, effect: fx.Transact) -> None:
        if not all(isinstance(operation, Add) for operation in effect.operations):
            super()._transact(effect)
            return
        self.store.submit(effect.operations, lambda _results, _error: None)
        self.machine.store_done(effect.token, [AddResult.STORED] * len(effect.operations), self.world.now)


@pytest.mark.parametrize(
    ("node_type", "found"),
    [(ForgetfulNode, "delivered twice"), (LateNode, "past|stands still"), (HastyNode, "lost|delivered twice")],
)
def test_a_planted_defect_is_found(node_type: type[SimNode], found: str) -> None:
    for seed in range(SEEDS):
        story = what_was_broken(seed, node_type)
        if any(word in story for word in found.split("|")):
            assert f"seed {seed}" in story
            assert "sequenceDiagram" in story
            return
    pytest.fail(f"{node_type.__name__}: its defect was not found in {SEEDS} seeds")


def what_was_broken(seed: int, node_type: type[SimNode]) -> str:
    try:
        Scenario(seed, node_type).run()
    except BrokenPromiseError as error:
        return str(error)
    return ""


def test_the_same_seed_tells_the_same_story_under_any_hash_seed() -> None:
    program = (
        "from tumpline.testing.world.scenario import Scenario; print(*(Scenario(s).run().digest for s in range(5)))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }
    assert len(digests) == 1
