"""The main path: accept, store, acknowledge, forward, delete; deliver; originate."""

import pytest

from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu, AduRefused, AduStored, Outcome
from tumpline.machines.plan import Route
from tumpline.testing.lone_node import LoneNode, bundle, read, whole
from tumpline.wire.bundle7 import BlockType, decode_hop_count
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern


def test_a_bundle_goes_through() -> None:
    node = LoneNode("dtn://relay/").start()
    node.path_up(1, "dtn://ground/").path_up(2, "dtn://rover/")
    transfers = node.receive(1, bundle("dtn://ground/me", "dtn://rover/files", b"hello"))
    assert node.acknowledged() == transfers
    (unit,) = node.forwarded(2)
    assert whole(unit).payload == b"hello"
    assert len(node.store.bundles) == 1
    node.acked(2, unit)
    assert not node.store.bundles
    assert node.machine.snapshot(0)["store"]["octets"] == 0


def test_acknowledged_only_after_stored() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    node.hold_store = True
    transfers = node.receive(1, bundle("dtn://a/x", "dtn://b/y"))
    assert node.acknowledged() == []
    node.release_store()
    assert node.acknowledged() == transfers


def test_a_route_names_the_next_hop() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/").path_up(2, "dtn://hub/")
    node.machine.add_route(Route(EidPattern.parse("dtn://far/**"), Eid.parse("dtn://hub/")), node.now)
    node.receive(1, bundle("dtn://a/x", "dtn://far/y"))
    assert len(node.forwarded(2)) == 1


def test_delivery_commits_state_identity_and_removal_together() -> None:
    node = LoneNode("dtn://here/").start().path_up(1, "dtn://a/")
    node.machine.register("files", "files", node.now)
    data = bundle("dtn://a/x", "dtn://here/files", b"content")
    node.receive(1, data)
    (delivery,) = node.deliveries("files")
    assert read(delivery.payload) == b"content"
    before = node.transactions
    node.machine.delivered("files", [(delivery.seq, Outcome([("count", b"1")]))], node.now)
    node.settle()
    assert node.transactions == before + 1
    assert not node.store.bundles
    assert node.store.state == {("files", "count"): b"1"}
    assert len(node.store.identities) == 1
    transfers = node.receive(1, data)
    assert node.acknowledged()[-1:] == transfers
    assert not node.deliveries("files")
    assert not node.store.bundles


def test_an_adu_is_stored_and_leaves() -> None:
    node = LoneNode("dtn://here/").start().path_up(1, "dtn://a/")
    node.machine.originate([Adu(Eid.parse("dtn://a/x"), Octets(b"hi"), "me", token=7)], node.now)
    node.settle()
    (stored,) = node.took(AduStored)
    assert stored.token == 7
    assert stored.bundle.startswith("dtn://here/me@848")
    (unit,) = node.forwarded(1)
    assert whole(unit).primary.source == Eid.parse("dtn://here/me")
    assert whole(unit).payload == b"hi"


def test_an_echo_service_answers() -> None:
    node = LoneNode("dtn://here/").start().path_up(1, "dtn://a/")
    node.machine.register("echo", "echo", node.now)
    node.receive(1, bundle("dtn://a/x", "dtn://here/echo", b"ping"))
    (delivery,) = node.deliveries("echo")
    reply = Adu(delivery.source, delivery.payload, "echo")
    node.machine.delivered("echo", [(delivery.seq, Outcome(adus=[reply]))], node.now)
    node.settle()
    (unit,) = node.forwarded(1)
    assert whole(unit).payload == b"ping"
    node.acked(1, unit)
    assert not node.store.bundles


def test_the_node_s_hop_limit_is_for_adus_that_ask_for_none() -> None:
    for asked, limits in ((None, [9]), (3, [3]), (0, [])):
        node = LoneNode(hop_limit=9).start().path_up(1, "dtn://peer/")
        adu = Adu(Eid.parse("dtn://peer/app"), Octets(b"x"), hop_limit=asked)
        node.machine.originate([adu], node.now)
        node.settle()
        blocks = whole(node.forwarded(1)[0]).blocks
        assert [decode_hop_count(b.data)[0] for b in blocks if b.type == BlockType.HOP_COUNT] == limits


@pytest.mark.parametrize("null", ["dtn:none", "ipn:0.0"])
def test_nothing_is_sent_to_the_null_endpoint(null: str) -> None:
    """RFC 9171 §4.2.5.1.1: it has no members; such a bundle would only fill the store."""
    node = LoneNode("dtn://here/").start()
    node.machine.originate([Adu(Eid.parse(null), Octets(b"hi"), "me", token=7)], node.now)
    (refused,) = node.settle().took(AduRefused)
    assert (refused.token, "null endpoint" in refused.reason) == (7, True)
    assert not node.store.bundles
    assert not node.machine.snapshot(node.now)["store"]["octets"]
