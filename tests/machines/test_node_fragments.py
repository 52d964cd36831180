"""RFC 9171 §5.8 and §5.9: cutting to a limit, and making whole again."""

import random

import pytest

from tumpline.machines.contract import FileRange, Octets
from tumpline.machines.effects import Adu, Join, Outcome, RefuseReason
from tumpline.machines.plan import Route
from tumpline.testing.lone_node import CountedHandle, LoneNode, bundle, read, whole
from tumpline.wire.bundle7 import BlockFlags, Bundle, CanonicalBlock, encode_bundle, hop_count_block
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

CONTENT = bytes(n * 7 % 251 for n in range(5000))
REPLICATED = CanonicalBlock(200, 5, BlockFlags.REPLICATE, 2, b"\x01")
ONCE = CanonicalBlock(201, 6, 0, 2, b"\x02")


def relayed(mru_octets: int, data: bytes) -> tuple[LoneNode, list[Bundle]]:
    """What leaves towards a neighbour that takes so much at most."""
    node = LoneNode("dtn://relay/").start().path_up(1, "dtn://a/").path_up(2, "dtn://b/", mru_octets=mru_octets)
    node.receive(1, data)
    units = node.forwarded(2)
    assert all(unit.length <= mru_octets for unit in units)
    return node, [whole(unit) for unit in units]


def test_a_bundle_is_cut_to_what_the_neighbour_takes() -> None:
    data = bundle("dtn://a/x", "dtn://b/y", CONTENT, blocks=(REPLICATED, ONCE, hop_count_block(9, 1, 7)))
    node, fragments = relayed(1000, data)
    assert len(fragments) > 4
    assert b"".join(each.payload for each in fragments) == CONTENT
    offset = 0
    for each in fragments:
        assert each.primary.flags & 1
        assert (each.primary.fragment_offset, each.primary.total_adu_length) == (offset, len(CONTENT))
        assert [block.type for block in each.blocks if block.type >= 200] == ([200] if offset else [200, 201])
        offset += len(each.payload)
    assert len(node.store.bundles) == len(fragments)
    assert node.machine.snapshot(0)["store"]["octets"] == node.store.recovered().octets


def test_a_fragment_is_cut_further() -> None:
    _, fragments = relayed(500, bundle("dtn://a/x", "dtn://b/y", CONTENT[1000:3000], fragment=(1000, 5000)))
    assert fragments[0].primary.fragment_offset == 1000
    assert b"".join(each.payload for each in fragments) == CONTENT[1000:3000]
    assert {each.primary.total_adu_length for each in fragments} == {5000}


def test_what_must_not_be_cut_goes_another_way_or_waits() -> None:
    node = LoneNode("dtn://relay/").start().path_up(1, "dtn://a/").path_up(2, "dtn://b/", mru_octets=1000)
    node.receive(1, bundle("dtn://a/x", "dtn://b/y", CONTENT, flags=0x4))
    assert not node.forwarded()
    assert len(node.store.bundles) == 1
    node.machine.add_route(Route(EidPattern.parse("dtn://b/**"), Eid.parse("dtn://c/")), node.now)
    node.path_up(3, "dtn://c/")
    assert len(node.forwarded(3)) == 1


def test_a_tiny_limit_is_no_reason_to_cut() -> None:
    node, fragments = relayed(90, bundle("dtn://a/x", "dtn://b/y", CONTENT))
    assert not fragments
    assert len(node.store.bundles) == 1


def test_cutting_can_be_switched_off() -> None:
    node = LoneNode(fragment=False).start().path_up(1, "dtn://b/", mru_octets=1000)
    node.machine.originate([Adu(Eid.parse("dtn://b/x"), Octets(CONTENT), "me")], node.now)
    node.settle()
    assert not node.forwarded()


def test_fragments_of_a_file_share_it() -> None:
    node = LoneNode().start()
    handle = CountedHandle(CONTENT)
    node.machine.originate([Adu(Eid.parse("dtn://b/x"), FileRange(handle, 0, len(CONTENT)), "me")], node.now)
    node.settle()
    node.path_up(1, "dtn://b/", mru_octets=2000)
    units = node.forwarded(1)
    assert b"".join(read(unit.payload) for unit in units) == CONTENT
    assert all(whole(unit) for unit in units)


def pieces(*bounds: tuple[int, int], sequence: int = 1) -> list[bytes]:
    return [
        bundle("dtn://a/x", "dtn://here/s", CONTENT[low:high], fragment=(low, len(CONTENT)), sequence=sequence)
        for low, high in bounds
    ]


def serving() -> LoneNode:
    node = LoneNode().start().path_up(1, "dtn://a/")
    node.machine.register("s", "s", node.now)
    return node


@pytest.mark.parametrize(
    "bounds",
    [
        [(0, 2000), (2000, 5000)],
        [(2000, 5000), (0, 2000)],
        [(0, 3000), (2000, 4000), (1000, 2500), (3500, 5000)],
        [(0, 5000)],
    ],
)
def test_fragments_become_whole(bounds: list[tuple[int, int]]) -> None:
    node = serving()
    for each in pieces(*bounds):
        assert not node.deliveries()
        node.receive(1, each)
    (delivery,) = node.deliveries("s")
    assert read(delivery.payload) == CONTENT
    assert len(node.store.bundles) == 1
    node.machine.delivered("s", [(delivery.seq, Outcome())], node.now)
    node.settle()
    assert not node.store.bundles
    assert node.machine.snapshot(0)["store"]["octets"] == 0
    transfers = node.receive(1, *pieces(*bounds))
    assert set(transfers) <= set(node.acknowledged())
    assert not node.store.bundles, "a fragment of a delivered ADU is a duplicate"


def test_a_late_fragment_of_a_whole_adu_is_a_duplicate() -> None:
    node = serving()
    node.receive(1, *pieces((0, 2000), (2000, 5000)))
    node.acknowledged()
    transfers = node.receive(1, *pieces((1000, 3000)))
    assert node.acknowledged() == transfers
    assert len(node.store.bundles) == 1


def test_any_order_and_overlap() -> None:
    chance = random.Random(7)
    for sequence in range(1, 20):
        node = serving()
        cuts = sorted(chance.sample(range(1, len(CONTENT)), 6))
        bounds = [(max(0, low - 30), high) for low, high in zip([0, *cuts], [*cuts, len(CONTENT)], strict=True)]
        chance.shuffle(bounds)
        node.receive(1, *pieces(*bounds, sequence=sequence))
        (delivery,) = node.deliveries("s")
        assert read(delivery.payload) == CONTENT


def test_a_gap_waits_and_survives_a_restart() -> None:
    node = serving()
    node.receive(1, *pieces((0, 1000), (2000, 5000)))
    assert not node.deliveries()
    again = LoneNode(store=node.store).start().path_up(1, "dtn://a/")
    again.machine.register("s", "s", 0.0)
    assert not again.deliveries()
    again.receive(1, *pieces((900, 2100)))
    (delivery,) = again.deliveries()
    assert read(delivery.payload) == CONTENT


def test_a_complete_set_is_joined_after_a_restart() -> None:
    node = serving()
    node.hold_store = True
    node.receive(1, *pieces((0, 1000), (1000, 5000)))
    adds = node.waiting.pop(0)
    node.store.carry_out(adds.operations)
    again = LoneNode(store=node.store)
    again.machine.register("s", "s", 0.0)
    again.start()
    assert len(again.deliveries()) == 1


def test_fragments_that_contradict_each_other_are_refused() -> None:
    node = serving()
    node.receive(1, *pieces((0, 1000)))
    (transfer,) = node.receive(1, bundle("dtn://a/x", "dtn://here/s", b"x" * 10, fragment=(1000, 1010)))
    assert node.refusals() == [(transfer, RefuseReason.NOT_ACCEPTABLE)]


def test_fragments_expire_and_are_forgotten() -> None:
    node = serving()
    node.receive(1, bundle("dtn://a/x", "dtn://here/s", b"x" * 10, fragment=(0, 20), lifetime_ms=1000))
    node.run_until(2)
    assert not node.store.bundles
    node.receive(1, bundle("dtn://a/x", "dtn://here/s", b"y" * 10, fragment=(10, 20), lifetime_ms=10_000))
    assert not node.took(Join)


def test_there_and_back_through_a_small_pipe() -> None:
    _, fragments = relayed(700, bundle("dtn://a/x", "dtn://b/y", CONTENT))
    end = LoneNode("dtn://b/").start().path_up(1, "dtn://relay/")
    end.machine.register("y", "y", 0.0)

    end.receive(1, *[encode_bundle(each) for each in reversed(fragments)])
    (delivery,) = end.deliveries()
    assert read(delivery.payload) == CONTENT
