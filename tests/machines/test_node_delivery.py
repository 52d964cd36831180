"""RFC 9171 §5.7: local delivery, at most once."""

from typing import Any

import pytest

from tumpline.errors import LocalProtocolError
from tumpline.machines.contract import FileRange, Octets
from tumpline.machines.effects import Adu, AduStored, Committed, Outcome, RefuseReason, Split
from tumpline.testing.lone_node import EPOCH_MS, CountedHandle, LoneNode, bundle, read, whole
from tumpline.wire.admin import UnknownRecord, encode_admin
from tumpline.wire.crc import crc32c
from tumpline.wire.eid import Eid


def serving(**config: Any) -> LoneNode:
    node = LoneNode(**config).start().path_up(1, "dtn://a/")
    node.machine.register("s", "s", node.now)
    return node


def test_it_waits_until_somebody_registers() -> None:
    node = LoneNode(aliases=(Eid.parse("ipn:7.0"),)).start().path_up(1, "dtn://a/")
    node.receive(1, bundle("dtn://a/x", "dtn://here/s"), bundle("dtn://a/x", "ipn:7.40", sequence=2))
    node.machine.register("s", "s", node.now)
    node.settle()
    assert len(node.deliveries("s")) == 1
    node.machine.register("s", "40", node.now)
    node.settle()
    assert len(node.deliveries("s")) == 1


def test_an_endpoint_has_one_service() -> None:
    node = serving()
    with pytest.raises(LocalProtocolError, match="dtn://here/s is registered by s"):
        node.machine.register("other", "s", node.now)


def test_what_was_not_answered_comes_again_after_unregister() -> None:
    node = serving()
    node.receive(1, bundle("dtn://a/x", "dtn://here/s"))
    (first,) = node.deliveries()
    node.machine.unregister("s", node.now)
    node.machine.delivered("s", [(first.seq, Outcome())], node.now)
    node.settle()
    assert len(node.store.bundles) == 1
    node.machine.register("s", "s", node.now)
    node.settle()
    (again,) = node.deliveries()
    assert again.seq == first.seq


def test_a_failed_delivery_is_tried_again_when_asked_for() -> None:
    node = serving()
    node.receive(1, bundle("dtn://a/x", "dtn://here/s"))
    (first,) = node.deliveries()
    node.machine.delivery_failed("s", first.seq, 3.0, node.now)
    node.run_until(2.9)
    assert not node.deliveries()
    node.run_until(3.1)
    assert [each.seq for each in node.deliveries()] == [first.seq]


def test_after_a_crash_it_is_delivered_again_but_never_after_its_commit() -> None:
    node = serving()
    data = bundle("dtn://a/x", "dtn://here/s")
    node.receive(1, data)
    node.deliveries()
    again = LoneNode(store=node.store).start().path_up(1, "dtn://a/")
    again.machine.register("s", "s", 0.0)
    again.settle()
    (delivery,) = again.deliveries()
    again.machine.delivered("s", [(delivery.seq, Outcome())], 0.0)
    again.settle()
    third = LoneNode(store=node.store).start().path_up(1, "dtn://a/")
    third.machine.register("s", "s", 0.0)
    third.receive(1, data)
    assert not third.deliveries()


def test_identities_are_capped_by_refusing_new_ones_never_by_eviction() -> None:
    node = serving(identities_per_source=2, forget_s=1.0)
    for sequence in (1, 2):
        node.receive(1, bundle("dtn://a/x", "dtn://here/s", sequence=sequence, lifetime_ms=5000))
        (delivery,) = node.deliveries()
        node.machine.delivered("s", [(delivery.seq, Outcome())], node.now)
        node.settle()
    node.acknowledged()
    third = bundle("dtn://a/x", "dtn://here/s", sequence=3)
    (transfer,) = node.receive(1, third)
    assert node.refusals() == [(transfer, RefuseReason.NO_RESOURCES)]
    (other,) = node.receive(1, bundle("dtn://b/x", "dtn://here/s"))
    assert node.acknowledged() == [other]
    (passing,) = node.receive(1, bundle("dtn://a/x", "dtn://far/s", sequence=4))
    assert node.acknowledged() == [passing]
    assert len(node.store.identities) == 2
    node.run_until(7.0)
    assert not node.store.identities
    node.deliveries()
    node.receive(1, third)
    assert len(node.deliveries()) == 1


def test_the_cap_holds_over_a_restart() -> None:
    node = serving(identities_per_source=1)
    node.receive(1, bundle("dtn://a/x", "dtn://here/s"))
    (delivery,) = node.deliveries()
    node.machine.delivered("s", [(delivery.seq, Outcome())], node.now)
    node.settle()
    again = LoneNode(store=node.store, identities_per_source=1).start().path_up(1, "dtn://a/")
    (transfer,) = again.receive(1, bundle("dtn://a/x", "dtn://here/s", sequence=2))
    assert again.refusals() == [(transfer, RefuseReason.NO_RESOURCES)]


def test_a_reply_that_does_not_fit_waits_for_room() -> None:
    node = serving(quota_octets=700)
    node.receive(1, bundle("dtn://a/x", "dtn://here/s", b"ping"), bundle("dtn://a/y", "dtn://far/x", b"f" * 400))
    (delivery,) = node.deliveries()
    reply = Adu(Eid.parse("dtn://a/x"), Octets(b"p" * 100), "s")
    node.machine.delivered("s", [(delivery.seq, Outcome([("k", b"v")], [reply]))], node.now)
    node.settle()
    assert not node.store.state
    assert len(node.store.bundles) == 2
    node.machine.remove(2, node.now)
    node.settle()
    assert node.store.state == {("s", "k"): b"v"}
    (unit,) = node.forwarded(1)
    assert whole(unit).payload == b"p" * 100


def test_an_adu_in_a_file_is_sealed_before_it_is_stored() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    handle = CountedHandle(b"xxfile content")
    node.machine.originate([Adu(Eid.parse("dtn://a/x"), FileRange(handle, 2, 12), "s", token=1)], node.now)
    node.settle()
    assert len(node.took(AduStored)) == 1
    (unit,) = node.forwarded(1)
    assert whole(unit).payload == b"file content"


@pytest.mark.parametrize(("crc_type", "is_read"), [(0, False), (1, True), (2, False)])
def test_a_file_whose_crc_is_known_is_not_read_for_it(crc_type: int, is_read: bool) -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    payload = FileRange(CountedHandle(b"xxfile content"), 2, 12, crc32c(b"file content"))
    node.machine.originate([Adu(Eid.parse("dtn://a/x"), payload, "s", crc_type=crc_type)], node.now)
    node.settle()
    assert bool(node.took(Split)) is is_read
    (unit,) = node.forwarded(1)
    assert whole(unit).payload == b"file content", "and its CRC is right"


def test_the_window_of_a_service_is_bounded() -> None:
    node = serving(window_bundles=3)
    node.receive(1, *[bundle("dtn://a/x", "dtn://here/s", sequence=n) for n in range(10)])
    seen = []
    while deliveries := node.deliveries():
        assert len(deliveries) <= 3
        seen += [each.sequence for each in deliveries]
        node.machine.delivered("s", [(each.seq, Outcome()) for each in deliveries], node.now)
        node.settle()
    assert seen == list(range(10))


def test_a_commit_that_fails_is_tried_again() -> None:
    node = serving()
    node.receive(1, bundle("dtn://a/x", "dtn://here/s"))
    (delivery,) = node.deliveries()
    node.fail_store = True
    node.machine.delivered("s", [(delivery.seq, Outcome([("k", b"v")]))], node.now)
    node.settle()
    assert not node.store.state
    node.fail_store = False
    node.run_until(2.0)
    assert node.store.state == {("s", "k"): b"v"}
    assert not node.store.bundles


def test_of_a_commit_that_does_not_fit_the_store_takes_what_fits() -> None:
    node = serving()
    node.receive(1, *(bundle("dtn://a/x", "dtn://here/s", sequence=number) for number in range(100)))
    node.store_most = 3
    node.machine.delivered("s", [(each.seq, Outcome()) for each in node.deliveries()], node.now)
    node.settle().run_until(1.0)
    assert not node.store.bundles
    assert len(node.store.identities) == 100
    assert node.machine.snapshot(node.now)["counters"]["bundles_delivered"] == 100
    assert node.machine.snapshot(node.now)["store"]["octets"] == 0


def test_a_service_that_asks_hears_what_of_its_answers_is_kept() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    node.machine.register("s", "s", node.now, confirms=True)
    node.receive(1, *(bundle("dtn://a/x", "dtn://here/s", sequence=number) for number in range(3)))
    seqs = [each.seq for each in node.deliveries()]
    node.machine.remove(seqs[0], node.now)
    node.settle()
    node.fail_store = True
    node.machine.delivered("s", [(seq, Outcome()) for seq in seqs], node.now)
    node.settle()
    assert not node.took(Committed)
    assert node.machine.snapshot(node.now)["store"]["failure"] == "disk full"
    node.fail_store = False
    node.run_until(5.0)
    assert sorted(seq for told in node.took(Committed) for seq in told.seqs) == seqs
    assert node.machine.snapshot(node.now)["store"]["failure"] is None


def test_records_of_one_commit_are_never_written_out_of_order() -> None:
    node = serving()
    node.receive(1, *(bundle("dtn://a/x", "dtn://here/s", sequence=number) for number in range(4)))
    node.store_most = 3
    outcomes = [Outcome([("k", b"1")]), Outcome(), Outcome([("k", b"2")]), Outcome()]
    answers = [(each.seq, outcome) for each, outcome in zip(node.deliveries(), outcomes, strict=True)]
    node.machine.delivered("s", answers, node.now)
    node.settle().run_until(3.0)
    assert len(node.store.bundles) == 2, "those that write nothing have got through"
    assert not node.store.state
    node.store_most = None
    node.run_until(200.0)
    assert node.store.state == {("s", "k"): b"2"}
    assert not node.store.bundles


def test_a_store_that_takes_nothing_is_not_asked_again_and_again() -> None:
    node = serving()
    node.receive(1, *(bundle("dtn://a/x", "dtn://here/s", sequence=number) for number in range(1000)))
    node.fail_store = True
    node.machine.delivered("s", [(each.seq, Outcome()) for each in node.deliveries()], node.now)
    node.settle().run_until(600.0)
    asked = node.machine.snapshot(node.now)["counters"]["store_failures"]
    assert asked < 1200, "hardly more than once for each bundle in ten minutes"
    node.fail_store = False
    node.run_until(700.0)
    assert not node.store.bundles


def test_removals_that_do_not_fit_together_get_through_one_by_one() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/").path_up(2, "dtn://b/")
    node.receive(1, *(bundle("dtn://a/x", "dtn://b/y", sequence=number) for number in range(50)))
    node.store_most = 1
    node.acked(2, *node.forwarded(2)).run_until(1.0)
    assert not node.store.bundles


def test_a_bundle_that_expires_at_a_service_keeps_what_the_service_did() -> None:
    node = serving()
    node.receive(1, bundle("dtn://a/x", "dtn://here/s", lifetime_ms=1000))
    (delivery,) = node.deliveries()
    node.run_until(2.0)
    assert not node.store.bundles
    node.machine.delivered("s", [(delivery.seq, Outcome([("k", b"v")]))], node.now)
    node.settle()
    assert node.store.state == {("s", "k"): b"v"}
    assert node.machine.snapshot(0)["store"]["octets"] == 0


def test_the_local_node_of_ipn_is_this_node() -> None:
    """RFC 9758 §5.4: ipn:!.N names service N here, and never leaves."""
    node = LoneNode("ipn:7.0").start()
    node.machine.register("s", "40", node.now)
    node.machine.originate([Adu(Eid.parse("ipn:!.40"), Octets(b"hi"), "41")], node.now)
    node.settle()
    (delivery,) = node.deliveries("s")
    assert read(delivery.payload) == b"hi"


def test_a_source_that_the_node_cannot_name_is_refused() -> None:
    node = LoneNode("ipn:7.0").start()
    node.machine.originate([Adu(Eid.parse("ipn:9.1"), Octets(b"hi"), "echo", token=1)], node.now)
    assert [type(effect).__name__ for effect in node.machine.effects()] == ["AduRefused"]


def test_administrative_records_go_to_their_handler() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    seen: list[object] = []
    node.machine.register_admin(64_384, lambda item, _: seen.append(item.record))
    record = UnknownRecord(64_384, b"\x18\x2a")
    node.receive(1, bundle("dtn://a/", "dtn://here/", encode_admin(record), flags=0x2))
    assert seen == [record]
    assert not node.store.bundles
    node.receive(1, bundle("dtn://a/", "dtn://here/", b"\xff", flags=0x2, sequence=2))
    assert node.notices("admin_record_malformed")
    assert not node.store.bundles


def test_creation_without_a_clock_is_zero_with_an_age() -> None:
    node = LoneNode(clock=False).start().path_up(1, "dtn://a/")
    node.machine.originate([Adu(Eid.parse("dtn://a/x"), Octets(b"hi"), "s")] * 2, node.now)
    node.settle()
    bundles = [whole(unit) for unit in node.forwarded(1)]
    assert [each.primary.created_ms for each in bundles] == [0, 0]
    assert len({each.primary.sequence for each in bundles}) == 2
    assert all(7 in [block.type for block in each.blocks] for each in bundles)
    known = LoneNode().start().path_up(1, "dtn://a/")
    known.machine.originate([Adu(Eid.parse("dtn://a/x"), Octets(b"hi"), "s")], known.now)
    known.settle()
    assert whole(known.forwarded(1)[0]).primary.created_ms == EPOCH_MS
