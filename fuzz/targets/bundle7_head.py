"""Heads of bundles whose payload has not come, as they are read from the front of a large transfer."""

from __future__ import annotations

from fuzz import corpus
from fuzz.harness import Target
from fuzz.repair import repaired
from tumpline.errors import MalformedError
from tumpline.wire.bundle7 import LENIENT, STRICT, BundleHead, Strictness, decode_head_untrusted, reencode_head


def run(data: bytes) -> bool:
    """Octets behind the head change nothing, fewer are asked for, and the head can be forwarded."""
    accepted = False
    for rules in (STRICT, LENIENT):
        head = _decoded(data, rules)
        if head is not None:
            _judge(data, head, rules)
            accepted = True
    return accepted


def _judge(data: bytes, head: BundleHead, rules: Strictness) -> None:
    offset = head.payload_offset
    assert offset <= len(data), "a head that is not there"
    assert decode_head_untrusted(data[:offset], None, rules) == head, "octets of the payload change the head"
    assert _decoded(data[: offset - 1], rules) is None, "a head without its last octet"
    assert reencode_head(head, head.blocks).endswith(head.payload_prefix), "the payload block changes on its way"


def _decoded(data: bytes, rules: Strictness) -> BundleHead | None:
    try:
        return decode_head_untrusted(data, None, rules)
    except MalformedError:
        return None


# At most the first 64 KiB are looked at, and copied some times; 256 blocks make values of some hundred octets each.
TARGET = Target(
    "bundle7_head", "heads of bundles", corpus.bundles, run, peak_base=384 << 10, peak_factor=8, prepare=repaired
)
