"""The scanner that everything from outside passes before a CBOR library sees it."""

from __future__ import annotations

import cbor2

from fuzz import corpus
from fuzz.harness import Target
from tumpline.wire import cbor


def seeds() -> list[bytes]:
    """Bundles are CBOR items, and so are reports."""
    return [*corpus.bundles(), *corpus.reports(), cbor.encode_item({1: [2, "text", b"octets", True, None], "k": -5})]


def run(data: bytes) -> bool:
    """What the scanner passes in its strict form has that length for cbor2 too."""
    cbor.scan_item(data, 0, shortest=False, definite=False)
    end = cbor.scan_item(data, 0)
    if not _has_tags(data[:end]):
        cbor2.loads(data[:end])
    return True


def _has_tags(data: bytes) -> bool:
    """Whether an initial octet may be a tag: what cbor2 makes of those is none of the scanner's business."""
    return any(octet >> 5 == 6 for octet in data)


# Nothing is built: some frames of the depth that is allowed, an error's text, and a copy of a map's key at each depth
# (a string is copied once more to look whether it is UTF-8). cbor2 then builds the value: a list takes 8 octets for
# each item of one octet, an item of a map a hundred.
TARGET = Target("cbor", "CBOR scanner", seeds, run, peak_base=64 << 10, peak_factor=200)
