"""What a person is told about a bundle."""

import json

from hypothesis import given

from tumpline.testing.strategies import admin_records, all_bundles
from tumpline.wire import bundle7 as b7
from tumpline.wire.admin import Assertion, Record, StatusReport, encode_admin
from tumpline.wire.describe import describe, describe_record
from tumpline.wire.eid import NULL, Eid

PRIMARY = b7.PrimaryBlock(0x20044 | 1 << 30, 2, Eid.parse("ipn:7.1"), Eid.parse("dtn://n/x"), NULL, 1000, 5, 60000)
BLOCKS = (
    b7.previous_node_block(Eid.parse("ipn:3.0"), 2, 1),
    b7.bundle_age_block(70, 3, 0),
    b7.hop_count_block(32, 4, 5, 2, 0x11),
    b7.CanonicalBlock(200, 6, 0x80, 0, b"\x01\x02"),
    b7.CanonicalBlock(7, 7, 0, 0, b"\xff"),
)


def test_all_of_a_bundle() -> None:
    value = describe(b7.Bundle(PRIMARY, BLOCKS, bytes(40)))
    assert value["id"] == "dtn://n/x@1000-5"
    assert value["primary"] == {
        "version": 7,
        "flags": ["must not fragment", "status time", "report delivery", "unknown 0x40000000"],
        "crc": "crc32c",
        "destination": "ipn:7.1",
        "source": "dtn://n/x",
        "report_to": "dtn:none",
        "created_ms": 1000,
        "sequence": 5,
        "lifetime_ms": 60000,
    }
    previous, age, hops, unknown, broken = value["blocks"]
    assert (previous["name"], previous["crc"], previous["previous_node"]) == ("previous node", "x25", "ipn:3.0")
    assert (age["name"], age["number"], age["age_ms"]) == ("bundle age", 3, 70)
    assert (hops["hop_limit"], hops["hop_count"], hops["flags"]) == (32, 4, ["replicate", "discard"])
    assert unknown == {
        "type": 200,
        "name": "unknown 200",
        "number": 6,
        "flags": ["unknown 0x80"],
        "crc": "none",
        "length_octets": 2,
        "hex": "0102",
    }
    assert broken["hex"] == "ff"
    assert "bundle age" in broken["problem"]
    assert value["payload"] == {"flags": [], "crc": "crc32c", "length_octets": 40, "begins_hex": "00" * 32}


def test_a_head_says_all_but_the_payload() -> None:
    bundle = b7.Bundle(PRIMARY._replace(flags=1, fragment_offset=9, total_adu_length=99), BLOCKS, bytes(40))
    head, _, _ = b7.split_whole(b7.encode_bundle(bundle), b7.LENIENT)
    of_head, of_bundle = describe(head), describe(bundle)
    assert of_head["id"] == "dtn://n/x@1000-5-9-40"
    assert (of_head["primary"]["fragment_offset"], of_head["primary"]["total_adu_length"]) == (9, 99)
    del of_bundle["payload"]["begins_hex"]
    assert of_head == of_bundle


REPORT = StatusReport(
    Assertion(True, 5), Assertion(), Assertion(), Assertion(True), 9, Eid.parse("ipn:5.1"), 1000, 7, 3, 4
)


def test_a_status_report() -> None:
    bundle = b7.Bundle(PRIMARY._replace(flags=2), (), encode_admin(REPORT))
    assert describe(bundle)["payload"]["administrative_record"] == {
        "record": "status report",
        "received": {"asserted": True, "time_ms": 5},
        "forwarded": {"asserted": False},
        "delivered": {"asserted": False},
        "deleted": {"asserted": True},
        "reason": 9,
        "reason_name": "hop limit exceeded",
        "source": "ipn:5.1",
        "created_ms": 1000,
        "sequence": 7,
        "fragment_offset": 3,
        "fragment_length": 4,
    }


def test_a_record_that_is_none_and_a_part_of_one() -> None:
    broken = b7.Bundle(PRIMARY._replace(flags=2), (), b"\xff")
    assert "administrative record" in describe(broken)["payload"]["problem"]
    part = broken._replace(primary=PRIMARY._replace(flags=3, fragment_offset=0, total_adu_length=9))
    assert "problem" not in describe(part)["payload"]


@given(all_bundles())
def test_json_carries_it(bundle: b7.Bundle) -> None:
    value = describe(bundle)
    assert json.loads(json.dumps(value)) == value


@given(admin_records())
def test_json_carries_records(record: Record) -> None:
    value = describe_record(record)
    assert json.loads(json.dumps(value)) == value
