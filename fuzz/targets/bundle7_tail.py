"""What follows a payload that went to a file: its CRC and the end of the bundle."""

from __future__ import annotations

from fuzz import corpus
from fuzz.harness import Target
from tumpline.errors import MalformedError
from tumpline.wire.bundle7 import (
    LENIENT,
    STRICT,
    check_tail,
    decode_head_untrusted,
    encode_tail,
    payload_crc,
    tail_octets,
)


def seeds() -> list[bytes]:
    """Heads with tails, the payload between left out: the first octet says of which bundle."""
    return [bytes([index]) + _tail(index) for index in range(len(corpus.bundles()))]


def _crc(index: int) -> int:
    data = corpus.bundles()[index]
    head = decode_head_untrusted(data)
    assert head is not None
    payload = data[head.payload_offset : head.payload_offset + head.payload_length]
    return payload_crc(head.payload_crc_type, head.payload_prefix, payload)


def _tail(index: int) -> bytes:
    data = corpus.bundles()[index]
    head = decode_head_untrusted(data)
    assert head is not None
    return data[len(data) - tail_octets(head) :]


def run(data: bytes) -> bool:
    """Strictly only the one right tail; leniently that one with octets behind it, or without its break."""
    if not data:
        raise MalformedError("which bundle?")
    index, tail = data[0] % len(corpus.bundles()), data[1:]
    head = decode_head_untrusted(corpus.bundles()[index])
    assert head is not None
    right = encode_tail(head.payload_crc_type, _crc(index))
    check_tail(head, tail, _crc(index), LENIENT)
    assert tail.startswith(right[:-1]), "a wrong CRC passes"
    check_tail(head, tail, _crc(index), STRICT)
    assert tail == right, "a wrong end passes"
    return True


# A comparison and an error's text; and the head that it belongs to, of up to 256 blocks.
TARGET = Target("bundle7_tail", "tails of bundles", seeds, run, peak_base=128 << 10, peak_factor=4)
