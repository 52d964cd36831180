"""Administrative records."""

from __future__ import annotations

from fuzz import corpus
from fuzz.harness import Target
from tumpline.wire import cbor
from tumpline.wire.admin import StatusReport, UnknownRecord, decode_admin_untrusted, encode_admin
from tumpline.wire.describe import describe_record


def seeds() -> list[bytes]:
    """Status reports of a node, and a record of a type that nobody knows."""
    return [*corpus.reports(), encode_admin(UnknownRecord(64_999, cbor.encode_bytes(b"content")))]


def run(data: bytes) -> bool:
    """A status report that is sent again says the same."""
    record = decode_admin_untrusted(data)
    assert describe_record(record)
    if isinstance(record, StatusReport):
        assert decode_admin_untrusted(encode_admin(record)) == record, "it says something else"
    return True


# Copies of the octets, twice as many characters of hex, and an EID with the cache's table (see eid.py).
TARGET = Target("admin", "administrative records", seeds, run, peak_base=256 << 10, peak_factor=16)
