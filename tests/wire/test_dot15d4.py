"""IEEE 802.15.4: check sequences and heads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.dot15d4 import FrameType, Head, decode_head_untrusted, fcs, has_valid_fcs

# IEEE Std 802.15.4, the example of the clause on the FCS: an acknowledgement, its bits in the order in which they are sent.
ACK = bytes.fromhex("02006a")


def test_the_check_sequence_of_the_standard() -> None:
    bits = "".join(f"{octet:08b}"[::-1] for octet in ACK + fcs(ACK))
    assert bits == "0100000000000000" + "01010110" + "0010011110011110"
    # CRC-16/KERMIT is the same polynomial, start and order.
    assert fcs(b"123456789") == (0x2189).to_bytes(2, "little")


@given(st.binary(min_size=1, max_size=125), st.data())
def test_one_altered_bit_is_seen(frame: bytes, data: st.DataObject) -> None:
    whole = bytearray(frame + fcs(frame))
    assert has_valid_fcs(bytes(whole))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert not has_valid_fcs(bytes(whole))


def test_nothing_has_no_check_sequence() -> None:
    assert not has_valid_fcs(b"")
    assert not has_valid_fcs(b"\0\0")


LONG, OTHER = bytes.fromhex("0012740100010101"), bytes.fromhex("0012740200020202")
PAN = b"\xab\xcd"


def frame(control: int, *parts: bytes) -> bytes:
    return control.to_bytes(2, "little") + b"\x07" + b"".join(part[::-1] for part in parts) + b"payload"


@pytest.mark.parametrize(
    ("octets", "head"),
    [
        (ACK, Head(FrameType.ACK, False, False, 0x6A, None, None, None, 3)),
        (frame(0xCC61, PAN, LONG, OTHER), Head(FrameType.DATA, True, False, 7, PAN, LONG, OTHER, 21)),
        (frame(0x8841, PAN, b"\xff\xff", b"\0\1"), Head(FrameType.DATA, False, False, 7, PAN, b"\xff\xff", b"\0\1", 9)),
        (frame(0x8801, PAN, b"\0\2", PAN, b"\0\1"), Head(FrameType.DATA, False, False, 7, PAN, b"\0\2", b"\0\1", 11)),
        (frame(0xEC01, PAN, LONG, OTHER), Head(FrameType.DATA, False, False, 7, PAN, LONG, OTHER, 21)),
        (frame(0xEC41, LONG, OTHER), Head(FrameType.DATA, False, False, 7, None, LONG, OTHER, 19)),
        (frame(0x2040, PAN), Head(FrameType.BEACON, False, False, 7, PAN, None, None, 5)),
        (frame(0x8009, PAN, b"\0\1"), Head(FrameType.DATA, False, True, 7, None, None, b"\0\1", 7)),
    ],
)
def test_heads(octets: bytes, head: Head) -> None:
    assert decode_head_untrusted(octets) == head


def test_a_sequence_number_may_be_left_out() -> None:
    octets = (0xA941).to_bytes(2, "little") + PAN[::-1] + b"\2\0" + b"\1\0"
    assert decode_head_untrusted(octets) == Head(FrameType.DATA, False, False, None, PAN, b"\0\2", b"\0\1", 8)


@pytest.mark.parametrize("octets", ["", "41", "4188", "05000000", "41b80700", "410407", "41880700", "61cc07cdab00"])
def test_what_has_no_such_head(octets: str) -> None:
    with pytest.raises(MalformedError):
        decode_head_untrusted(bytes.fromhex(octets))


@given(st.binary(max_size=40))
def test_any_octets(octets: bytes) -> None:
    try:
        head = decode_head_untrusted(octets)
    except MalformedError:
        return
    assert 2 <= head.head_octets <= len(octets)
