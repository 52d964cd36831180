"""What routing says about bundles from elsewhere: delivered, forwarded or deleted, whatever their node ID is."""

import pytest

from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu
from tumpline.machines.routing._api import Reception
from tumpline.machines.routing.regex_table import ReceiveRule, RegexTable, RegexTableConfig, SendRule
from tumpline.testing.lone_node import LoneNode, bundle
from tumpline.wire.eid import Eid

RULES = {
    "dtn://here/gone": "forward",
    "dtn://secret/": "delete",
    "dtn://here/secret": "delete",
    "dtn://other/.*": "deliver",
    "dtn://here/": "delete",  # what is for the node itself comes before
}


@pytest.fixture
def node() -> LoneNode:
    receive = [ReceiveRule(match=match, action=Reception(action)) for match, action in RULES.items()]
    routing = RegexTable(RegexTableConfig(receive=receive, send=[SendRule(match=".*", via=Eid.parse("dtn://b/"))]))
    return LoneNode("dtn://here/", routing=routing).start().path_up(1, "dtn://a/").path_up(2, "dtn://b/")


def test_deleted_on_arrival(node: LoneNode) -> None:
    for number, destination in enumerate(("dtn://secret/x", "dtn://here/secret/y"), 1):
        transfers = node.receive(1, bundle("dtn://a/x", destination, sequence=number))
        assert node.acknowledged() == transfers  # the sender is not to try again
    assert not node.store.bundles
    assert [each["reason"] for each in node.notices("bundle_deleted")] == ["destination_unavailable"] * 2


def test_forwarded(node: LoneNode) -> None:
    node.receive(1, bundle("dtn://a/x", "dtn://here/gone/x"), bundle("dtn://a/x", "dtn://far/x", sequence=2))
    assert len(node.forwarded(2)) == 2


def test_delivered_though_it_is_another_nodes(node: LoneNode) -> None:
    node.receive(1, bundle("dtn://a/x", "dtn://other/app"))
    assert node.forwarded(2) == []
    assert len(node.store.bundles) == 1  # it waits for who asks


def test_what_is_for_the_node_itself_is_always_delivered(node: LoneNode) -> None:
    node.receive(1, bundle("dtn://a/x", "dtn://here/"))
    assert node.notices("bundle_ignored")[0]["to"] == "dtn://here/"


def test_what_this_node_sends_is_not_received(node: LoneNode) -> None:
    node.machine.originate([Adu(Eid.parse("dtn://secret/x"), Octets(b"ours"), "me")], node.now)
    node.settle()
    assert len(node.forwarded(2)) == 1
