"""RFC 9171 §6.1.1: status reports, made and received."""

from tumpline.machines.bpa.reports import DELETION_REASONS
from tumpline.machines.effects import Outcome
from tumpline.machines.node import ReportPolicy
from tumpline.testing.lone_node import EPOCH_MS, LoneNode, bundle, whole
from tumpline.wire.admin import Assertion, StatusReport, decode_admin_untrusted, encode_admin
from tumpline.wire.bundle7 import BlockFlags, BundleFlags, CanonicalBlock, ReasonCode
from tumpline.wire.eid import Eid

ALL = BundleFlags.REPORTS
ON = ReportPolicy(enabled=True)


def reporting(policy: ReportPolicy = ON) -> LoneNode:
    node = LoneNode("dtn://relay/", reports=policy).start()
    return node.path_up(1, "dtn://a/").path_up(2, "dtn://b/").path_up(3, "dtn://boss/")


def reports(node: LoneNode) -> list[StatusReport]:
    found = []
    for unit in node.forwarded(3):
        made = whole(unit)
        assert made.primary.flags == BundleFlags.ADMIN
        assert made.primary.source == Eid.parse("dtn://relay/")
        found.append(decode_admin_untrusted(made.payload))
    return found


def asked(flags: int = ALL, to: str = "dtn://b/y", **facts: object) -> bytes:
    return bundle("dtn://a/x", to, flags=flags, report_to="dtn://boss/", **facts)  # type: ignore[arg-type]


def test_off_by_default() -> None:
    node = reporting(ReportPolicy())
    node.receive(1, asked())
    assert not reports(node)


def test_each_status_has_its_report() -> None:
    node = reporting()
    node.run_until(1.5)
    node.receive(1, asked(ALL | BundleFlags.STATUS_TIME))
    (received,) = reports(node)
    assert received.received == Assertion(True, EPOCH_MS + 1500)
    assert received.reason == ReasonCode.NO_INFORMATION
    assert (received.source, received.created_ms, received.sequence) == (Eid.parse("dtn://a/x"), EPOCH_MS, 1)
    sent = [unit for unit in node.store.bundles if node.store.bundles[unit].destination == "dtn://b/y"]
    node.machine.acked(2, sent, node.now)
    node.settle()
    (forwarded,) = reports(node)
    assert forwarded.forwarded == Assertion(True, EPOCH_MS + 1500)
    assert not forwarded.received.asserted


def test_delivery_is_reported_once_committed() -> None:
    node = reporting()
    node.machine.register("s", "s", node.now)
    node.receive(1, asked(BundleFlags.REPORT_DELIVERY, "dtn://relay/s"))
    (delivery,) = node.deliveries()
    assert not reports(node)
    node.machine.delivered("s", [(delivery.seq, Outcome())], node.now)
    node.settle()
    (report,) = reports(node)
    assert report.delivered == Assertion(True, None)


def test_deletion_names_the_reason() -> None:
    node = reporting()
    node.receive(1, asked(BundleFlags.REPORT_DELETION, "dtn://nowhere/y", lifetime_ms=1000))
    node.run_until(2)
    (report,) = reports(node)
    assert report.deleted.asserted
    assert report.reason == ReasonCode.LIFETIME_EXPIRED


def test_a_fragment_is_named_with_offset_and_length() -> None:
    node = reporting()
    node.receive(1, asked(BundleFlags.REPORT_RECEPTION, fragment=(10, 100)))
    (report,) = reports(node)
    assert (report.fragment_offset, report.fragment_length) == (10, len(b"payload"))


def test_an_unknown_block_may_ask_for_a_report() -> None:
    node = reporting()
    node.receive(1, asked(0, blocks=(CanonicalBlock(200, 5, BlockFlags.REPORT, 2, b"\x01"),)))
    (report,) = reports(node)
    assert report.reason == ReasonCode.BLOCK_UNSUPPORTED


def test_never_to_nobody() -> None:
    node = reporting()
    node.receive(1, bundle("dtn://a/x", "dtn://b/y", flags=ALL))
    assert not reports(node)
    assert len(node.store.bundles) == 1


def test_the_rate_is_bounded() -> None:
    node = reporting(ReportPolicy(enabled=True, per_s=2.0, burst=5))
    node.receive(1, *[asked(BundleFlags.REPORT_RECEPTION, sequence=n) for n in range(50)])
    assert len(reports(node)) == 5
    assert node.machine.snapshot(0)["counters"]["reports_suppressed"] == 45
    node.run_until(1.0)
    node.receive(1, *[asked(BundleFlags.REPORT_RECEPTION, sequence=n) for n in range(50, 100)])
    assert len(reports(node)) == 2


def test_received_reports_are_told() -> None:
    node = LoneNode().start().path_up(1, "dtn://b/")
    no = Assertion()
    record = StatusReport(no, no, Assertion(True, None), no, 0, Eid.parse("dtn://here/me"), 5, 6)
    node.receive(1, bundle("dtn://b/", "dtn://here/", encode_admin(record), flags=BundleFlags.ADMIN))
    (told,) = node.notices("status_report_received")
    assert told["reporter"] == "dtn://b/"
    assert told["status"] == ["delivered"]
    assert (told["source"], told["created_ms"], told["sequence"]) == ("dtn://here/me", 5, 6)
    assert not node.store.bundles


def test_every_reason_of_deletion_is_explained() -> None:
    names = [name for name, _ in DELETION_REASONS.values()]
    assert len(set(names)) == len(names) == 8
    assert all(why for _, why in DELETION_REASONS.values())
