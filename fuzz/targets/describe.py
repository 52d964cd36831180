"""Bundles for people: `tumpline bundles decode` shows whatever can be decoded at all."""

from __future__ import annotations

import json

from fuzz import corpus
from fuzz.harness import Target
from fuzz.repair import repaired
from tumpline.errors import MalformedError
from tumpline.wire.bundle7 import LENIENT, decode_bundle_untrusted, decode_head_untrusted
from tumpline.wire.describe import describe


def run(data: bytes) -> bool:
    """The description is JSON."""
    head = decode_head_untrusted(data, None, LENIENT)
    if head is None:
        raise MalformedError("octets are missing")
    json.dumps(describe(head))
    json.dumps(describe(decode_bundle_untrusted(data, LENIENT)))
    return True


# Hex takes two octets for each, its JSON two more; each of 256 blocks has a dictionary of ten entries, some 1500 octets.
TARGET = Target(
    "describe", "bundles for people", corpus.bundles, run, peak_base=1 << 20, peak_factor=16, prepare=repaired
)
