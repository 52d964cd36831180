"""What people are shown."""

import json

from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu, Outcome
from tumpline.machines.plan import Contact, Peer, Route
from tumpline.testing.lone_node import LoneNode, bundle
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern


def test_a_snapshot_is_plain_and_complete() -> None:
    node = LoneNode(aliases=(Eid.parse("ipn:5.0"),)).start().path_up(1, "dtn://a/", security="TLSv1.3")
    node.machine.add_route(Route(EidPattern.parse("dtn://far/**"), Eid.parse("dtn://hub/"), 3, "north"), 0.0)
    node.machine.add_peer(Peer(Eid.parse("dtn://hub/"), "udp", "192.0.2.9:4556"), 0.0)
    node.machine.add_contact(Contact(Eid.parse("dtn://hub/"), cron="@hourly", duration_ms=1000), 0.0)
    node.machine.register("s", "s", 0.0)
    node.settle()
    node.receive(1, bundle("dtn://a/x", "dtn://far/y"), bundle("dtn://a/x", "dtn://here/s", sequence=2))
    shown = json.loads(json.dumps(node.machine.snapshot(node.now)))
    assert shown["node_id"] == "dtn://here/"
    assert shown["aliases"] == ["ipn:5.0"]
    assert shown["routes"] == [{"to": "dtn://far/**", "via": "dtn://hub/", "priority": 3, "name": "north"}]
    assert [each["cron"] for each in shown["contacts"]] == ["@hourly"]
    assert {each["id"]: each["up"] for each in shown["neighbours"]} == {"dtn://a/": True, "dtn://hub/": False}
    assert {each["destination"]: each["next"] for each in shown["queues"]} == {
        "dtn://far/y": None,
        "dtn://here/s": "service:s",
    }
    assert shown["store"]["bundles"] == 2
    assert shown["counters"]["bundles_received"] == 2
    assert shown["services"][0]["endpoints"] == ["dtn://here/s"]
    assert shown["services"][0]["in_hand"] == 1
    (path,) = next(each["paths"] for each in shown["neighbours"] if each["id"] == "dtn://a/")
    assert path["security"] == "TLSv1.3"


def test_traces_only_if_wanted() -> None:
    for wanted in (False, True):
        node = LoneNode(trace_bundles=wanted).start().path_up(1, "dtn://a/")
        node.machine.register("s", "s", 0.0)
        node.machine.originate([Adu(Eid.parse("dtn://a/x"), Octets(b"hi"), "me")], 0.0)
        node.settle()
        node.acked(1, *node.forwarded(1))
        node.receive(1, bundle("dtn://a/x", "dtn://here/s"))
        (delivery,) = node.deliveries()
        node.machine.delivered("s", [(delivery.seq, Outcome())], 0.0)
        node.settle()
        for name in ("bundle_received", "bundle_forwarded", "bundle_delivered"):
            assert len(node.notices(name)) == wanted, name
