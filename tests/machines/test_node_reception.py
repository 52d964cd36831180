"""RFC 9171 §5.6: what comes over a path."""

from typing import Any

import pytest

from tumpline.machines.contract import FileRange, Octets
from tumpline.machines.effects import Adu, AduRefusal, AduRefused, Outcome, RefuseReason
from tumpline.testing.lone_node import EPOCH_MS, CountedHandle, LoneNode, arrival, bundle, whole
from tumpline.wire.bundle7 import (
    LENIENT,
    STRICT,
    BlockFlags,
    BlockType,
    CanonicalBlock,
    bundle_age_block,
    hop_count_block,
    split_whole,
)
from tumpline.wire.eid import Eid


def between(**config: Any) -> LoneNode:
    """A relay with a neighbour on both sides."""
    node = LoneNode("dtn://relay/", **config).start()
    return node.path_up(1, "dtn://ground/").path_up(2, "dtn://rover/")


def test_a_malformed_bundle_is_refused_for_ever() -> None:
    node = between()
    data = bytearray(bundle("dtn://ground/me", "dtn://rover/x"))
    data[-3] ^= 1
    (transfer,) = node.receive(1, bytes(data))
    assert node.refusals() == [(transfer, RefuseReason.NOT_ACCEPTABLE)]
    assert node.notices("bundle_malformed")
    assert not node.store.bundles


@pytest.mark.parametrize("kind", [BlockType.PREVIOUS_NODE, BlockType.BUNDLE_AGE, BlockType.HOP_COUNT])
@pytest.mark.parametrize("data", [b"\xff", b"\x82\x01", b"\xf6"])
def test_a_block_that_cannot_be_read_is_no_way_past_the_rules(kind: int, data: bytes) -> None:
    """Neither forwarded nor delivered, as if that block had said nothing."""
    node = between()
    node.machine.register("s", "s", node.now)
    broken = (CanonicalBlock(kind, 2, 0, 2, data),)
    for sequence, to in enumerate(("dtn://rover/x", "dtn://relay/s")):
        node.receive(1, bundle("dtn://ground/me", to, sequence=sequence, blocks=broken))
    assert [reason for _, reason in node.refusals()] == [RefuseReason.NOT_ACCEPTABLE] * 2
    assert not node.forwarded()
    assert not node.deliveries()
    assert not node.store.bundles


def test_one_bad_bundle_does_not_spoil_its_batch() -> None:
    node = between()
    good = [bundle("dtn://ground/me", "dtn://rover/x", sequence=n) for n in (1, 2)]
    first, bad, last = node.receive(1, good[0], b"\x9f\x00", good[1])
    assert node.acknowledged() == [first, last]
    assert [transfer for transfer, _ in node.refusals()] == [bad]
    assert len(node.forwarded(2)) == 2


def test_a_duplicate_is_acknowledged_and_dropped() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    data = bundle("dtn://a/x", "dtn://far/y")
    transfers = node.receive(1, data) + node.receive(1, data)
    assert node.acknowledged() == transfers
    assert len(node.store.bundles) == 1
    assert node.machine.snapshot(node.now)["store"]["octets"] == len(data)


def test_a_forwarded_bundle_may_come_again() -> None:
    """Its identity is not kept: it may legitimately return."""
    node = between()
    data = bundle("dtn://ground/me", "dtn://rover/x")
    node.receive(1, data)
    node.acked(2, *node.forwarded(2))
    node.receive(1, data)
    assert len(node.forwarded(2)) == 1


def test_anonymous_bundles_are_never_duplicates() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    node.machine.register("sink", "sink", node.now)
    data = bundle("dtn:none", "dtn://here/sink", flags=0x4)
    node.receive(1, data, data)
    deliveries = node.deliveries("sink")
    assert len(deliveries) == 2
    node.machine.delivered("sink", [(each.seq, Outcome()) for each in deliveries], node.now)
    node.settle()
    assert not node.store.identities


def unknown(flags: int) -> CanonicalBlock:
    return CanonicalBlock(200, 5, flags, 2, b"\x01")


def test_an_unknown_block_stays_unless_it_says_otherwise() -> None:
    node = between()
    node.receive(1, bundle("dtn://ground/me", "dtn://rover/x", blocks=(unknown(0),)))
    (unit,) = node.forwarded(2)
    assert 200 in [block.type for block in whole(unit).blocks]


def test_an_unknown_block_is_discarded_if_it_says_so() -> None:
    node = between()
    data = bundle("dtn://ground/me", "dtn://rover/x", blocks=(unknown(BlockFlags.DISCARD),))
    node.receive(1, data)
    (stored,) = node.store.bundles.values()
    assert stored.length < len(data)
    (unit,) = node.forwarded(2)
    assert 200 not in [block.type for block in whole(unit).blocks]


def test_a_bundle_is_deleted_if_its_unknown_block_says_so() -> None:
    node = between()
    transfers = node.receive(1, bundle("dtn://ground/me", "dtn://rover/x", blocks=(unknown(BlockFlags.DELETE_BUNDLE),)))
    assert node.acknowledged() == transfers
    assert not node.store.bundles
    assert node.notices("bundle_deleted")[0]["reason"] == "block_unsupported"


@pytest.mark.parametrize(("limit", "count", "passes"), [(3, 2, True), (3, 3, False), (3, 4, False)])
def test_hop_limit(limit: int, count: int, passes: bool) -> None:
    node = between()
    data = bundle("dtn://ground/me", "dtn://rover/x", blocks=(hop_count_block(limit, count, 2),))
    transfers = node.receive(1, data)
    assert node.acknowledged() == transfers
    assert bool(node.forwarded(2)) == passes


def test_a_last_hop_may_use_the_limit_up() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    node.machine.register("s", "s", node.now)
    node.receive(1, bundle("dtn://a/x", "dtn://here/s", blocks=(hop_count_block(3, 3, 2),)))
    assert len(node.deliveries()) == 1


def test_expired_on_arrival() -> None:
    node = between()
    transfers = node.receive(1, bundle("dtn://ground/me", "dtn://rover/x", created_ms=EPOCH_MS - 10, lifetime_ms=10))
    assert node.acknowledged() == transfers
    assert not node.store.bundles
    assert node.notices("bundle_deleted")[0]["reason"] == "lifetime_expired"


@pytest.mark.parametrize(
    ("source", "destination"), [("ipn:!.7", "dtn://rover/x"), ("dtn://ground/me", "ipn:!.7"), ("dtn://g/x", "dtn:none")]
)
def test_what_has_no_business_on_the_wire_is_discarded(source: str, destination: str) -> None:
    node = between(strictness=LENIENT)
    transfers = node.receive(1, bundle(source, destination))
    assert node.acknowledged() == transfers
    assert not node.store.bundles
    assert node.notices("bundle_deleted")[0]["reason"] == "destination_unavailable"


@pytest.mark.parametrize(("created_ms", "clock"), [(0, True), (0, False), (EPOCH_MS, False)])
def test_age_counts_where_a_time_is_unknown(created_ms: int, clock: bool) -> None:
    """RFC 9171 §5.5: no creation time, or no clock: the Bundle Age decides."""
    node = LoneNode("dtn://relay/", clock=clock).start().path_up(1, "dtn://a/")
    age = bundle_age_block(400, 2)
    node.receive(1, bundle("dtn://a/x", "dtn://b/y", created_ms=created_ms, lifetime_ms=1000, blocks=(age,)))
    node.run_until(0.5)
    assert len(node.store.bundles) == 1
    node.run_until(0.7)
    assert not node.store.bundles


def test_no_clock_and_no_age_means_young() -> None:
    node = LoneNode(clock=False).start().path_up(1, "dtn://a/")
    node.receive(1, bundle("dtn://a/x", "dtn://b/y", created_ms=EPOCH_MS, lifetime_ms=1000))
    node.run_until(0.9)
    assert node.store.bundles
    node.run_until(1.1)
    assert not node.store.bundles


def test_over_quota_is_refused_for_now() -> None:
    data = bundle("dtn://a/x", "dtn://b/y")
    node = LoneNode(quota_octets=len(data) + 10).start().path_up(1, "dtn://a/")
    first, second = node.receive(1, data, bundle("dtn://a/x", "dtn://b/y", sequence=2))
    assert node.acknowledged() == [first]
    assert node.refusals() == [(second, RefuseReason.NO_RESOURCES)]
    assert node.notices("transfer_refused")


def test_reservations_count() -> None:
    node = LoneNode(quota_octets=1000).start().path_up(1, "dtn://a/")
    assert node.machine.may_receive(800) is None
    assert node.machine.may_receive(200) is RefuseReason.NO_RESOURCES
    node.machine.release(800)
    assert node.machine.may_receive(200) is None


def test_promises_leave_room_for_small_bundles() -> None:
    data = bundle("dtn://a/x", "dtn://b/y")
    node = LoneNode(quota_octets=1000).start().path_up(1, "dtn://a/")
    assert node.machine.may_receive(876) is RefuseReason.NO_RESOURCES
    assert node.machine.may_receive(875) is None
    assert node.machine.may_receive(1) is RefuseReason.NO_RESOURCES
    [transfer] = node.receive(1, data)
    assert node.acknowledged() == [transfer]


def test_a_store_that_fails_refuses_the_transfers() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    node.fail_store = True
    (transfer,) = node.receive(1, bundle("dtn://a/x", "dtn://b/y"))
    assert node.refusals() == [(transfer, RefuseReason.NO_RESOURCES)]
    assert node.machine.snapshot(0)["store"]["octets"] == 0
    node.fail_store = False
    (transfer,) = node.receive(1, bundle("dtn://a/x", "dtn://b/y"))
    assert node.acknowledged() == [transfer]


def test_of_a_batch_that_does_not_fit_the_store_takes_what_fits() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    node.store_most = 1
    transfers = node.receive(1, *(bundle("dtn://a/x", "dtn://b/y", sequence=number) for number in range(5)))
    assert sorted(node.acknowledged()) == transfers
    assert not node.refusals()


def test_local_adus_over_quota_are_refused() -> None:
    node = LoneNode(quota_octets=500).start()
    node.machine.originate([Adu(Eid.parse("dtn://a/x"), Octets(b"x" * 600), token=3)], node.now)
    node.settle()
    (refused,) = node.took(AduRefused)
    assert (refused.token, refused.kind) == (3, AduRefusal.IMPOSSIBLE)
    assert "600 octets never fits into a store of 500 octets" in refused.reason


def test_local_adus_for_which_there_is_no_room_now_may_come_again() -> None:
    node = LoneNode(quota_octets=4000).start()
    adus = [Adu(Eid.parse("dtn://a/x"), Octets(b"x" * 800), token=token) for token in (1, 2, 3, 4)]
    assert node.machine.fits(adus) == 3, "the last quarter of the store is for bundles of others"
    node.machine.originate(adus, node.now)
    node.settle()
    assert [(each.token, each.kind) for each in node.took(AduRefused)] == [(4, AduRefusal.NO_ROOM)]
    assert node.machine.fits(adus) == 0
    assert node.machine.fits([adus[0]._replace(destination=Eid.parse("dtn://here/x"))]) == 1, (
        "a bundle that stays here may"
    )
    node.machine.remove(1, node.now)
    node.settle()
    assert node.machine.fits(adus) == 1
    handle = CountedHandle(bytes(800))
    node.machine.originate([Adu(Eid.parse("dtn://a/x"), FileRange(handle, 0, 800), token=5)] * 2, node.now)
    node.settle()
    assert [each.kind for each in node.took(AduRefused)] == [AduRefusal.NO_ROOM]


def test_a_store_that_fails_says_so_to_those_who_send() -> None:
    node = LoneNode().start()
    node.store_most = 1
    node.machine.originate([Adu(Eid.parse("dtn://a/x"), Octets(b"x"), token=token) for token in range(1, 6)], node.now)
    node.settle()
    assert not node.took(AduRefused), "one by one they fit"
    node.fail_store = True
    node.machine.originate([Adu(Eid.parse("dtn://a/x"), Octets(b"x"), token=9)], node.now)
    node.settle()
    assert [(each.token, each.kind, each.reason) for each in node.took(AduRefused)] == [
        (9, AduRefusal.NOT_STORED, "disk full")
    ]


def test_a_large_bundle_whose_payload_lies_in_a_file() -> None:
    node = between()
    data = bundle("dtn://ground/me", "dtn://rover/x", b"p" * 500)
    head, _, _ = split_whole(data, STRICT)
    assert node.machine.may_receive(len(data)) is None
    large = arrival(data, head)
    assert large.payload is not None
    handle = large.payload.handle  # type: ignore[union-attr]
    assert isinstance(handle, CountedHandle)
    (transfer,) = node.receive(1, large)
    assert node.acknowledged() == [transfer]
    store = node.machine.snapshot(0)["store"]
    assert (store["bundles"], store["octets"], store["reserved"]) == (1, len(data), 0)
    (unit,) = node.forwarded(2)
    assert handle.readers == 2  # the store's and the unit's
    assert whole(unit).payload == b"p" * 500


def test_a_large_bundle_with_a_wrong_crc_is_refused_and_freed() -> None:
    node = between()
    data = bundle("dtn://ground/me", "dtn://rover/x", b"p" * 500)
    head, _, _ = split_whole(data, STRICT)
    large = arrival(data, head)
    handle = large.payload.handle  # type: ignore[union-attr]
    (transfer,) = node.receive(1, large._replace(payload_crc=large.payload_crc ^ 1))
    assert node.refusals() == [(transfer, RefuseReason.NOT_ACCEPTABLE)]
    assert isinstance(handle, CountedHandle)
    assert handle.readers == 0
