"""A node under bundles of every form: whatever it sends on keeps every rule, and its primary block and payload are the same."""

from __future__ import annotations

import random

import pytest

from tumpline.machines.bpa.config import ReportPolicy
from tumpline.machines.plan import Route
from tumpline.testing.lone_node import LoneNode, whole
from tumpline.wire.bundle7 import STRICT, decode_bundle_untrusted, encode_bundle
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern
from tumpline.wire.generate import draw_bundle

MANY = 400


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mru_octets", [1 << 40, 700], ids=["whole", "in fragments"])
def test_what_is_forwarded_keeps_every_rule(seed: int, mru_octets: int) -> None:
    chance = random.Random(seed)
    bundles = [draw_bundle(chance, index) for index in range(MANY)]
    node = LoneNode("dtn://between/", reports=ReportPolicy(enabled=True)).start()
    node.machine.add_route(Route(EidPattern.parse("*:**"), Eid.parse("dtn://next/")), node.now)
    node.path_up(1, "dtn://before/").path_up(2, "dtn://next/", mru_octets=mru_octets)
    for bundle in bundles:
        node.receive(1, encode_bundle(bundle))
    sent = [whole(unit) for unit in node.forwarded(2)]
    came = {(each.primary.source, each.primary.sequence): each for each in bundles}
    passed = 0
    for each in sent:
        octets = encode_bundle(each)
        assert decode_bundle_untrusted(octets, STRICT) == each
        original = came.get((each.primary.source, each.primary.sequence))
        if original is not None and len(each.payload) == len(original.payload):
            assert (each.primary, each.payload) == (original.primary, original.payload)
            passed += 1
    assert passed > MANY // 10, "hardly anything was forwarded: lifetimes are over, or the node refuses what is valid"
