"""EID patterns as octets."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern, decode_eid_pattern_untrusted

TEXTS = (
    "*:**",
    "ipn:**|dtn:**",
    "dtn://rover/**|dtn://rover/files|dtn://a/b/**",
    "ipn:0.3.[10-19,30+]|ipn:977000.*.7|ipn:0.[1,3,5-9].*",
    "ipn:!.*|[2,77]:**|foo:**",
    "ipn:1.2|ipn:0.[" + ",".join(str(2 * number) for number in range(100)) + "].1",
)
PROBES = tuple(Eid.parse(text) for text in ("dtn://rover/files", "dtn:none", "ipn:0.3.12", "ipn:977000.9.7", "ipn:!.7"))


def seeds() -> list[bytes]:
    """Every kind of item."""
    return [EidPattern.parse(text).encoded for text in TEXTS if "!.*" not in text]


def run(data: bytes) -> bool:
    """A pattern matches without error, and its text and its octets mean the same pattern."""
    return judge(decode_eid_pattern_untrusted(data))


def judge(pattern: EidPattern) -> bool:
    """What must hold of every pattern."""
    matched = [pattern.matches(probe) for probe in PROBES]
    again = EidPattern.parse(str(pattern))
    assert again == pattern, "the text means another pattern"
    assert decode_eid_pattern_untrusted(pattern.encoded) == pattern, "the octets mean another pattern"
    assert matched == [again.matches(probe) for probe in PROBES], "the text matches other EIDs"
    assert pattern.specificity == again.specificity, "the text has another precedence"
    return True


# At most 16 KiB are looked at; an interval of two octets becomes two integers and a tuple, several times over until the
# normal form, the text and the octets are there.
TARGET = Target("eid_pattern", "EID patterns, octets", seeds, run, peak_base=256 << 10, peak_factor=512)
