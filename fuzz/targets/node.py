"""A node that receives mutated bundles, as it does from any neighbour."""

from __future__ import annotations

from fuzz import corpus
from fuzz.harness import Target
from fuzz.repair import repaired
from tumpline.machines.bpa.config import ReportPolicy
from tumpline.machines.effects import Outcome
from tumpline.machines.plan import Route
from tumpline.testing.lone_node import LoneNode
from tumpline.wire.bundle7 import decode_bundle_untrusted
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

QUOTA_OCTETS = 1 << 20
_FIFTY_DAYS_S = 50 * 86_400.0
_COLUMN = 1 << 63  # stores keep numbers as signed integers of 64 bits


def run(data: bytes) -> bool:
    """It is answered once, forwarded or delivered as a bundle, again a duplicate, and gone when its time is over."""
    node = _node()
    first, second = node.receive(1, data, data)
    answers = sorted(node.acknowledged() + [transfer for transfer, _ in node.refusals()])
    assert answers == [first, second], f"the answers are {answers}"
    _judge(node)
    accepted = bool(node.store.bundles)
    for delivery in node.deliveries("service"):
        node.machine.delivered("service", [(delivery.seq, Outcome())], node.now)
    for unit in node.settle().forwarded(2):
        decode_bundle_untrusted(unit.head + unit.payload.data + unit.tail)  # type: ignore[union-attr]
        node.acked(2, unit)
    node.run_until(_FIFTY_DAYS_S)
    _judge(node)
    return accepted


def _node() -> LoneNode:
    node = LoneNode(corpus.HERE, quota_octets=QUOTA_OCTETS, forget_s=86_400.0, reports=ReportPolicy(True)).start()
    node.machine.register("service", "service", 0.0)
    node.machine.add_route(Route(EidPattern.parse("*:**"), Eid.parse(corpus.FAR)), 0.0)
    node.path_up(1, "dtn://src/")
    return node.path_up(2, corpus.FAR, mru_octets=1200)


def _judge(node: LoneNode) -> None:
    store = node.machine.snapshot(node.now)["store"]
    held = sum(bundle.length for bundle in node.store.bundles.values())
    assert store["octets"] == held, f"the quota counts {store['octets']} octets of {held}"
    assert store["reserved"] == 0, "room is reserved for nothing"
    for bundle in node.store.bundles.values():
        numbers = (bundle.expires_ms, bundle.received_ms, bundle.age_ms, bundle.fragment_offset)
        assert all(-_COLUMN <= number < _COLUMN for number in numbers), f"{numbers} fit no column of a store"


# The node itself, what it keeps of each bundle and each report; the bundle's octets as received, stored, in fragments for a
# neighbour that takes 1200 octets, and decoded blocks as in bundle7_whole.
TARGET = Target(
    "node", "node that receives bundles", corpus.bundles, run, peak_base=1 << 20, peak_factor=16, prepare=repaired
)
