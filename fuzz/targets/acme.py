"""Records of the validation of node IDs."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.wire.acme import SHA_256, SHA_512, AcmeRecord, Digest, decode_acme_untrusted


def seeds() -> list[bytes]:
    """A challenge, a response, and an older agent's of each."""
    id_chal, token = bytes(range(16)), bytes(range(100, 132))
    records = (
        AcmeRecord(id_chal, token, None, (SHA_512, "sha-256", SHA_256)),
        AcmeRecord(id_chal, token, Digest(SHA_256, bytes(32))),
        AcmeRecord(id_chal, token),
        AcmeRecord(id_chal, token, Digest(None, bytes(32))),
    )
    return [record.encode_content() for record in records]


def run(data: bytes) -> bool:
    """There is one encoding of each record."""
    record = decode_acme_untrusted(data)
    assert record.encode_content() == data, "it says something else"
    return True


# A few strings of at most 128 octets, and an error's text.
TARGET = Target("acme", "records of ACME node ID validation", seeds, run, peak_base=64 << 10, peak_factor=16)
