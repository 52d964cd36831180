"""EID patterns as text: configuration, control requests."""

from __future__ import annotations

from fuzz.harness import Target
from fuzz.targets.eid_pattern import TEXTS, judge
from tumpline.wire.eid_pattern import EidPattern


def seeds() -> list[bytes]:
    """Every kind of item, as people write them."""
    return [text.encode() for text in TEXTS if "!.*" not in text]


def run(data: bytes) -> bool:
    """As for octets."""
    return judge(EidPattern.parse(data.decode("utf-8", "surrogateescape")))


# As for octets; text is split into as many pieces as it has separators, each a string of some 50 octets.
TARGET = Target("eid_pattern_text", "EID patterns, text", seeds, run, peak_base=256 << 10, peak_factor=512)
