"""Endpoint IDs as text: node IDs in SESS_INIT and certificates, configuration, control requests."""

from __future__ import annotations

from fuzz.harness import Target
from fuzz.targets import eid
from tumpline.wire.eid import Eid, decode_eid_untrusted


def seeds() -> list[bytes]:
    """Texts of the EIDs that bundles carry."""
    return [str(decode_eid_untrusted(octets)[0]).encode() for octets in eid.seeds()]


def run(data: bytes) -> bool:
    """Text, EID, octets and text again are one thing; what is derived from an EID has an answer."""
    found = Eid.parse(data.decode("utf-8", "surrogateescape"))
    assert Eid.parse(str(found)) == found, "the text means another EID"
    assert decode_eid_untrusted(found.canonical)[0] == found, "the octets mean another EID"
    assert found.node.is_administrative or found.is_null or found.scheme not in (1, 2), "a node without node ID"
    return True


# An EID has at most 1024 octets; text that is longer is refused at sight.
TARGET = Target("eid_text", "endpoint IDs, text", seeds, run, peak_base=96 << 10, peak_factor=16)
