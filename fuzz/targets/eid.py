"""Endpoint IDs from octets, in either strictness."""

from __future__ import annotations

from fuzz import corpus
from fuzz.harness import Target
from tumpline.wire.bundle7 import decode_bundle_untrusted
from tumpline.wire.eid import Eid, decode_eid_untrusted


def seeds() -> list[bytes]:
    """Of the bundles, and one of an unknown scheme."""
    primaries = [decode_bundle_untrusted(data).primary for data in corpus.bundles()]
    found = {eid for each in primaries for eid in (each.source, each.destination, each.report_to)}
    return [
        *sorted(eid.encoded for eid in found),
        *(eid.two_element().encoded for eid in found),
        b"\x82\x18\x63\x82\x01\x02",
    ]


def run(data: bytes) -> bool:
    """An EID keeps its octets, and its text means the same EID."""
    lax, end = decode_eid_untrusted(data, 0, shortest=False, definite=False)
    assert lax.encoded == data[:end], "the octets in transit have changed"
    eid, end = decode_eid_untrusted(data)
    assert (eid, eid.encoded) == (lax, data[:end]), "strictness changes the meaning"
    assert Eid.parse(str(eid)) == eid, "the text means another EID"
    assert decode_eid_untrusted(eid.canonical)[0] == eid, "the canonical octets mean another EID"
    return True


# An EID has at most 1024 octets, of which octets, canonical octets, hex text and a copy in the cache are made. The cache's
# table takes 150 KiB when it grows to its most, 4096 EIDs. Longer input is scanned, and not copied.
TARGET = Target("eid", "endpoint IDs", seeds, run, peak_base=256 << 10, peak_factor=4)
