"""What RFC 9171 forbids is refused, each rule by its own switch, and nothing is refused where the switch is off."""

import pytest

from tumpline.errors import MalformedError
from tumpline.wire import bundle7 as b7
from tumpline.wire.bundle7 import BlockFlags, BundleFlags
from tumpline.wire.eid import NULL, Eid

PRIMARY = b7.PrimaryBlock(0, 2, Eid.parse("ipn:7.1"), Eid.parse("ipn:5.1"), NULL, 1000, 5, 60000)
AGE = b7.bundle_age_block(5, 2)
ADMIN = PRIMARY._replace(flags=BundleFlags.ADMIN)
ANONYMOUS = PRIMARY._replace(source=NULL, flags=BundleFlags.MUST_NOT_FRAGMENT)
REPORTING = b7.CanonicalBlock(200, 2, BlockFlags.REPORT, 0, b"")


def bundle(primary: b7.PrimaryBlock, *blocks: b7.CanonicalBlock, payload_flags: int = 0) -> b7.Bundle:
    return b7.Bundle(primary, blocks, b"data", payload_flags)


# switch that waives the rule, what breaks it, words of the error
BROKEN = [
    ("check_flags", bundle(ADMIN._replace(flags=0x2 | BundleFlags.REPORT_RECEPTION)), "record asks for status"),
    ("check_flags", bundle(ADMIN._replace(flags=0x2 | BundleFlags.REPORT_FORWARDING)), "record asks for status"),
    ("check_flags", bundle(ADMIN._replace(flags=0x2 | BundleFlags.REPORT_DELIVERY)), "record asks for status"),
    ("check_flags", bundle(ADMIN._replace(flags=0x2 | BundleFlags.REPORT_DELETION)), "record asks for status"),
    ("check_flags", bundle(ANONYMOUS._replace(flags=0x4 | BundleFlags.REPORT_DELETION)), "anonymous bundle asks"),
    ("check_flags", bundle(ANONYMOUS._replace(flags=0)), "lacks the flag"),
    ("check_flags", bundle(ANONYMOUS._replace(source=Eid.parse("ipn:0.0"), flags=0)), "lacks the flag"),
    ("check_flags", bundle(ADMIN, REPORTING), "block of an administrative record asks"),
    ("check_flags", bundle(ANONYMOUS, REPORTING), "block of an anonymous bundle asks"),
    ("check_flags", bundle(ADMIN, payload_flags=BlockFlags.REPORT), "block of an administrative record asks"),
    ("check_blocks", bundle(PRIMARY, AGE, AGE._replace(number=3)), "two Bundle Age"),
    ("check_blocks", bundle(PRIMARY, *(b7.hop_count_block(9, 0, n) for n in (2, 3))), "two Hop Count"),
    ("check_blocks", bundle(PRIMARY, *(b7.previous_node_block(NULL, n) for n in (2, 3))), "two Previous Node"),
    ("require_age", bundle(PRIMARY._replace(created_ms=0)), "no Bundle Age"),
    ("check_source", bundle(PRIMARY._replace(source=Eid.parse("dtn://n/~all"))), "it is a group"),
    ("check_source", bundle(PRIMARY._replace(source=Eid.parse("ipn:!.1"))), "never leaves"),
    ("check_source", bundle(PRIMARY._replace(destination=Eid.parse("ipn:!.1"))), "never leaves"),
    ("require_primary_crc", bundle(PRIMARY._replace(crc_type=0)), "no CRC"),
]


@pytest.mark.parametrize(("switch", "wrong", "words"), BROKEN)
def test_a_rule_and_its_switch(switch: str, wrong: b7.Bundle, words: str) -> None:
    data = b7.encode_bundle(wrong)
    with pytest.raises(MalformedError, match=words):
        b7.decode_bundle_untrusted(data)
    waived = b7.STRICT._replace(**{switch: False})
    assert b7.decode_bundle_untrusted(data, waived) == wrong
    others = b7.LENIENT._replace(**{switch: True})
    with pytest.raises(MalformedError, match=words):
        b7.decode_bundle_untrusted(data, others)


KEPT = [
    bundle(ADMIN),
    bundle(ANONYMOUS),
    bundle(PRIMARY, REPORTING, payload_flags=BlockFlags.REPORT),
    bundle(PRIMARY._replace(flags=BundleFlags.REPORTS | BundleFlags.STATUS_TIME | BundleFlags.ACK_REQUESTED)),
    bundle(PRIMARY._replace(flags=1 << 63 | 1 << 3)),  # RFC 9171 §4.2.3: unrecognized flags are ignored
    bundle(PRIMARY._replace(created_ms=0), AGE),
    bundle(PRIMARY._replace(destination=Eid.parse("dtn://n/~all"))),
    bundle(PRIMARY._replace(destination=NULL)),
    bundle(PRIMARY, AGE, b7.hop_count_block(9, 0, 3), b7.previous_node_block(NULL, 4)),
    bundle(PRIMARY, *(b7.CanonicalBlock(201, n, 1 << 33, 2, b"") for n in (2, 2**64 - 1))),
    bundle(PRIMARY._replace(flags=1, fragment_offset=6, total_adu_length=10)),
]


@pytest.mark.parametrize("right", KEPT)
def test_what_is_allowed(right: b7.Bundle) -> None:
    assert b7.decode_bundle_untrusted(b7.encode_bundle(right)) == right


# what no switch allows
ALWAYS_WRONG = [
    (bundle(PRIMARY, AGE, AGE._replace(type=200)), "number 2 is used twice"),
    (bundle(PRIMARY, AGE._replace(number=1)), "number 1 is used twice or reserved"),
    (bundle(PRIMARY, AGE._replace(number=0)), "number 0 is used twice or reserved"),
    (bundle(PRIMARY, b7.CanonicalBlock(1, 2, 0, 2, b"")), "number 2, not 1"),
    (bundle(PRIMARY, b7.CanonicalBlock(1, 1, 0, 2, b"")), "CRC of the payload block|octets follow|octets are left"),
    (bundle(PRIMARY._replace(flags=1, fragment_offset=7, total_adu_length=10)), "behind the end"),
]


@pytest.mark.parametrize(("wrong", "words"), ALWAYS_WRONG)
@pytest.mark.parametrize("rules", [b7.STRICT, b7.LENIENT._replace(allow_trailing=False)], ids=["strict", "lenient"])
def test_what_is_never_allowed(wrong: b7.Bundle, words: str, rules: b7.Strictness) -> None:
    with pytest.raises(MalformedError, match=words):
        b7.decode_bundle_untrusted(b7.encode_bundle(wrong), rules)


# ---- encodings: hex, the switches that allow it, words of the error ---------------------------------------------------

HEAD = "88 07 00 00 82028201 02 8202820201 820100 82 1903e8 00 1864"
PAYLOAD = "85 01 01 00 00 41 78"
WAIVED = {"require_primary_crc": False}
ODD = [
    ("9f" + HEAD + PAYLOAD + "ff", {}, None),
    ("9f" + HEAD + PAYLOAD + "ff00", {"allow_trailing": True}, "left for the end"),
    ("82" + HEAD + PAYLOAD, {"allow_definite_bundle": True}, "indefinite length"),
    ("9802" + HEAD + PAYLOAD, {"allow_definite_bundle": True, "canonical": False}, "shortest"),
    ("82" + HEAD + PAYLOAD + "ff", {"allow_definite_bundle": True, "allow_trailing": True}, "indefinite length"),
    ("9f" + HEAD.replace("00 00", "1800 00", 1) + PAYLOAD + "ff", {"canonical": False}, "bundle flags.*shortest"),
    ("9f" + HEAD.replace("1864", "190064") + PAYLOAD + "ff", {"canonical": False}, "lifetime.*shortest"),
    ("9f" + HEAD.replace("820100", "82011800") + PAYLOAD + "ff", {"canonical": False}, "shortest"),
    ("9f" + HEAD + PAYLOAD.replace("41", "5801") + "ff", {"canonical": False}, "payload.*shortest"),
    (
        "9f" + HEAD.replace("88", "9f", 1) + "ff" + PAYLOAD + "ff",
        {"allow_indefinite_items": True},
        "primary.*indefinite",
    ),
    (
        "9f" + HEAD.replace("82 1903e8 00", "9f 1903e8 00 ff") + PAYLOAD + "ff",
        {"allow_indefinite_items": True},
        "creation",
    ),
    ("9f" + HEAD + "9f c8 02 00 00 40 ff" + PAYLOAD + "ff", {"allow_indefinite_items": True}, "indefinite"),
]


@pytest.mark.parametrize(("octets", "switches", "words"), [(o.replace(" ", ""), s, w) for o, s, w in ODD])
def test_odd_encodings_and_their_switches(octets: str, switches: dict[str, bool], words: str | None) -> None:
    octets = octets.replace("c802", "18c802")
    data = bytes.fromhex(octets)
    strict = b7.STRICT._replace(**WAIVED)
    decoded = b7.decode_bundle_untrusted(data, strict._replace(**switches))
    assert (decoded.primary.lifetime_ms, decoded.payload) == (100, b"x")
    for switch in switches:
        with pytest.raises(MalformedError):
            b7.decode_bundle_untrusted(data, strict._replace(**{**switches, switch: not switches[switch]}))
    if words:
        with pytest.raises(MalformedError, match=words):
            b7.decode_bundle_untrusted(data, strict)


NEVER = [
    "",
    "00",
    "9f",
    "9fff",
    "80",
    "81" + HEAD,
    "9f" + HEAD + "ff",  # no payload
    "9f" + HEAD + PAYLOAD,  # no break
    "9f" + HEAD + PAYLOAD + "00ff",
    "9f" + HEAD + PAYLOAD + PAYLOAD + "ff",
    "83" + HEAD + PAYLOAD,
    "83" + HEAD + PAYLOAD + PAYLOAD,
    "9f" + HEAD.replace("88 07", "88 06") + PAYLOAD + "ff",
    "9f" + HEAD.replace("00 00", "00 03", 1) + PAYLOAD + "ff",  # CRC type 3
    "9f" + HEAD.replace("88", "89", 1) + PAYLOAD + "ff",
    "9f" + HEAD.replace("88 07 00", "88 07 01") + PAYLOAD + "ff",  # a fragment without offset
    "9f" + HEAD.replace("00 1864", "20 1864") + PAYLOAD + "ff",
    "9f" + HEAD + "84 01 01 00 00 ff",
    "9f" + HEAD + "85 01 01 00 00 61 78 ff",  # payload as text
    "9f" + HEAD + "85 01 01 00 00 5f4178ff ff",  # payload of indefinite length
    "9f" + HEAD + "9f 01 01 00 00 4178 ff ff",
    "9f" + HEAD + "86 01 01 00 02 4178 4300000000 ff",
    "9f" + HEAD + "86 01 01 00 01 4178 580200 00 ff",
    "9f" + HEAD + "85 01 01 00 00 5b7fffffffffffffff 78 ff",
    "9f" + HEAD + "85 06 02 00 00 5b7fffffffffffffff 78 ff",
    "9f" + HEAD + "85 06 02 00 00 5bffffffffffffffff 78 ff",
    "9f" + "9b7fffffffffffffff" * 60,
    "9f88070000" + "81" * 60000,
    "9f88070000" + "8218638181" + "9f" * 60000,
    "81" * 70000,
    "9f" * 70000,
]


@pytest.mark.parametrize("octets", NEVER, ids=range(len(NEVER)))
@pytest.mark.parametrize("rules", [b7.STRICT._replace(**WAIVED), b7.LENIENT], ids=["strict", "lenient"])
def test_what_is_no_bundle(octets: str, rules: b7.Strictness) -> None:
    rules = rules._replace(allow_trailing=False)
    with pytest.raises(MalformedError):
        b7.decode_bundle_untrusted(bytes.fromhex(octets), rules)


@pytest.mark.parametrize("crc_type", [0, 2])
@pytest.mark.parametrize("rules", [b7.STRICT, b7.LENIENT])
def test_more_blocks_than_anyone_needs_are_refused(crc_type: int, rules: b7.Strictness) -> None:
    blocks = [b7.CanonicalBlock(200, number, 0, crc_type, b"") for number in range(2, b7.MAX_BLOCKS + 3)]
    most = bundle(PRIMARY, *blocks[:-1])
    assert b7.decode_bundle_untrusted(b7.encode_bundle(most), rules) == most
    with pytest.raises(MalformedError, match="more than 256 blocks"):
        b7.decode_bundle_untrusted(b7.encode_bundle(bundle(PRIMARY, *blocks)), rules)
