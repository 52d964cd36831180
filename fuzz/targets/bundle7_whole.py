"""Whole bundles, strict and lenient."""

from __future__ import annotations

from fuzz import corpus
from fuzz.harness import Target
from fuzz.repair import repaired
from tumpline.errors import MalformedError
from tumpline.wire.bundle7 import (
    LENIENT,
    STRICT,
    Bundle,
    Strictness,
    decode_bundle_untrusted,
    encode_bundle,
    split_whole,
)
from tumpline.wire.describe import describe


def run(data: bytes) -> bool:
    """What is accepted strictly is what our encoder makes of it; leniently the same bundle is read."""
    lenient = _decoded(data, LENIENT)
    strict = _decoded(data, STRICT)
    if strict is None:
        return lenient is not None and bool(describe(lenient))
    assert strict == lenient, "leniency changes the meaning"
    assert encode_bundle(strict) == data, "not the deterministic encoding"
    head, payload, tail = split_whole(data)
    assert data[: head.payload_offset] + payload + tail == data, "the parts are not the whole"
    return bool(describe(strict))


def _decoded(data: bytes, rules: Strictness) -> Bundle | None:
    try:
        return decode_bundle_untrusted(data, rules)
    except MalformedError:
        return None


# Copies of the payload for its CRC, the bundle, its encoding and its description; and 256 blocks of
# some hundred octets each.
TARGET = Target("bundle7_whole", "bundles", corpus.bundles, run, peak_base=384 << 10, peak_factor=8, prepare=repaired)
