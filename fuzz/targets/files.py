"""Messages of the files protocol."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.wire.files import Manifest, Piece, Receipt, decode_untrusted, encode

# Numbers, dates, patterns, addresses and references that a CBOR library may want to make objects of (RFC 8949 §3.4).
TAGGED = [
    bytes.fromhex(octets)
    for octets in """
        c06161 c1fb7ff0000000000000 c11b7fffffffffffffff c249ffffffffffffffffff c4821b7fffffffffffffff01
        c5821b7fffffffffffffff01 d81d00 d81e820100 d823615b d8246161 d825410f d90102818100 d9010441ff d9010544c0000201
        d9d9f700 d90100818100 d81900 d903ec6161 d86400
    """.split()  # noqa: SIM905
]


def seeds() -> list[bytes]:
    """Every kind of message, with a chunk's octets behind some."""
    transfer, manifest = bytes(range(16)), Manifest("report.pdf", 250_000, bytes(range(32)))
    return [
        encode(Piece(transfer, 100_000, 0, manifest)) + b"chunk",
        encode(Piece(transfer, 100_000, 2)) + b"chunk",
        encode(Piece(transfer, 100_000, None, manifest)),
        encode(Receipt(transfer, True, "report (2).pdf")),
        encode(Receipt(transfer, False, "the disk is full")),
        *(bytes([0xA1, 0x18, 0x63]) + tagged for tagged in TAGGED),
    ]


def run(data: bytes) -> bool:
    """A message that is sent again says the same."""
    message, end = decode_untrusted(data)
    assert 0 < end <= len(data), "a message that is not there"
    assert decode_untrusted(encode(message))[0] == message, "it says something else"
    return True


# A map of at most 2 KiB, each octet of which may be a value, and an error's text.
TARGET = Target("files", "files protocol", seeds, run, peak_base=32 << 10, peak_factor=2)
