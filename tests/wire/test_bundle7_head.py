"""Heads without their payload: in pieces, bounded, encoded anew, and the tail that must follow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.testing.strategies import all_bundles, extension_blocks
from tumpline.wire import bundle7 as b7
from tumpline.wire.crc import RunningCrc
from tumpline.wire.eid import NULL, Eid

PRIMARY = b7.PrimaryBlock(0, 2, Eid.parse("ipn:7.1"), Eid.parse("ipn:5.1"), NULL, 812345678901, 5, 60000)
BUNDLE = b7.Bundle(PRIMARY, (b7.hop_count_block(9, 0, 2), b7.bundle_age_block(7, 3, 0)), b"data" * 30)


def head_of(data: bytes, total: int | None = None) -> b7.BundleHead:
    head = b7.decode_head_untrusted(data, total)
    assert head is not None
    return head


@given(all_bundles())
def test_head_payload_and_tail_are_the_bundle(bundle: b7.Bundle) -> None:
    data = b7.encode_bundle(bundle)
    head, payload, tail = b7.split_whole(data)
    assert (head.primary, head.blocks, payload) == (bundle.primary, bundle.blocks, bundle.payload)
    assert data == data[: head.payload_offset] + payload + tail
    encoded = b7.encode_head(bundle.primary, bundle.blocks, len(payload), bundle.payload_flags, bundle.payload_crc_type)
    assert encoded == data[: head.payload_offset]
    assert encoded == b7.reencode_head(head, bundle.blocks)
    value = b7.payload_crc(head.payload_crc_type, head.payload_prefix, payload)
    assert b7.encode_tail(head.payload_crc_type, value) == tail
    assert len(tail) == b7.tail_octets(head)
    b7.check_tail(head, tail, value)


@given(all_bundles(), st.integers(0))
def test_a_head_is_there_as_soon_as_its_octets_are(bundle: b7.Bundle, cut: int) -> None:
    data = b7.encode_bundle(bundle)
    whole = head_of(data, len(data))
    assert head_of(data[: whole.payload_offset + 1], len(data)) == whole
    assert head_of(data[: whole.payload_offset], len(data)) == whole
    assert b7.decode_head_untrusted(data[: cut % whole.payload_offset]) is None
    assert b7.decode_head_untrusted(data[: cut % whole.payload_offset], len(data)) is None


@given(all_bundles(), st.data())
def test_forwarding_leaves_primary_and_payload_as_they_were(bundle: b7.Bundle, data: st.DataObject) -> None:
    head, payload, tail = b7.split_whole(b7.encode_bundle(bundle))
    blocks = data.draw(extension_blocks(report=False))
    rules = b7.STRICT._replace(require_age=False)
    again = b7.decode_bundle_untrusted(b7.reencode_head(head, blocks) + payload + tail, rules)
    assert again == bundle._replace(blocks=blocks)


def test_the_octets_of_a_primary_block_in_another_encoding_stay() -> None:
    """RFC 9171 §4.3.1: the primary block is immutable, so a forwarder never makes it canonical."""
    data = bytes.fromhex("9f 88 07 1800 00 8202820102 8202820201 820100 82 1903e8 00 1864 85 01 01 00 00 41 78 ff")
    head, payload, tail = b7.split_whole(data, b7.LENIENT)
    assert b7.reencode_head(head, ()) + payload + tail == data


def test_a_definite_array_leaves_as_an_indefinite_one() -> None:
    """RFC 9171 §4.1: a receiver may transform what does not conform."""
    data = bytes.fromhex("82 88 07 00 00 8202820102 8202820201 820100 82 1903e8 00 1864 85 01 01 00 00 41 78")
    head, payload, tail = b7.split_whole(data, b7.LENIENT)
    assert b7.reencode_head(head, ()) + payload + tail == b"\x9f" + data[1:] + b"\xff"


def test_the_total_length_must_fit() -> None:
    data = b7.encode_bundle(BUNDLE)
    head_of(data, len(data))
    for total in (len(data) - 1, len(data) + 1, 10 * len(data)):
        with pytest.raises(MalformedError, match="left for the end"):
            b7.decode_head_untrusted(data, total)
    assert b7.decode_head_untrusted(data, len(data) + 5, b7.LENIENT) is not None
    with pytest.raises(MalformedError):
        b7.decode_head_untrusted(data[:20], 20)


def test_a_payload_of_any_length_needs_only_its_head() -> None:
    for length in (2**16, 2**32, 2**63, 2**64 - 1):
        data = b7.encode_head(PRIMARY, (), length)
        head = head_of(data)
        assert (head.payload_length, head.payload_offset) == (length, len(data))
        assert head.payload_prefix == b7.payload_block_prefix(0, 2, length)
        assert head_of(data, len(data) + length + 6) == head


def filled(octets: int) -> bytes:
    """A head of exactly so many octets."""
    empty = len(b7.encode_head(PRIMARY, (b7.CanonicalBlock(200, 2, 0, 0, bytes(1000)),), 5))
    return b7.encode_head(PRIMARY, (b7.CanonicalBlock(200, 2, 0, 0, bytes(1000 + octets - empty)),), 5)


def test_the_head_is_bounded() -> None:
    most = filled(b7.MAX_HEAD_OCTETS)
    assert head_of(most).payload_offset == b7.MAX_HEAD_OCTETS
    over = filled(b7.MAX_HEAD_OCTETS + 1)
    for data in (over, over + bytes(100_000)):
        with pytest.raises(MalformedError, match="before its payload"):
            b7.decode_head_untrusted(data)
    many = (b7.CanonicalBlock(200, number, 0, 0, bytes(100)) for number in range(2, 1000))
    with pytest.raises(MalformedError, match="before its payload"):
        b7.decode_head_untrusted(b7.encode_head(PRIMARY, tuple(many), 5))


def test_a_block_that_announces_too_much_is_refused_at_once() -> None:
    start = b"\x9f" + b7.encode_primary(PRIMARY) + bytes.fromhex("8518c8020000")
    with pytest.raises(MalformedError, match="block 2 has 1000000 octets"):
        b7.decode_head_untrusted(start + bytes.fromhex("5a000f4240"))
    assert b7.decode_head_untrusted(start + bytes.fromhex("59ffff")) is None


@pytest.mark.parametrize("crc_type", [0, 1, 2])
def test_tail(crc_type: int) -> None:
    payload = bytes(range(256)) * 4
    prefix = b7.payload_block_prefix(1, crc_type, len(payload))
    value = b7.payload_crc(crc_type, prefix, payload)
    running = RunningCrc(crc_type)
    for piece in (prefix, payload[:300], payload[300:], (b"", b"\x42\0\0", b"\x44\0\0\0\0")[crc_type]):
        running.update(piece)
    assert running.value == value
    head = head_of(b7.encode_head(PRIMARY, (), len(payload), 1, crc_type))
    tail = b7.encode_tail(crc_type, value)
    b7.check_tail(head, tail, value)
    for wrong in (tail[:-1], tail[1:], tail + b"\xff", b"", tail[:-1] + b"\xfe"):
        with pytest.raises(MalformedError):
            b7.check_tail(head, wrong, value)
    b7.check_tail(head, tail + b"more", value, b7.LENIENT)
    b7.check_tail(head, tail[:-1], value, b7.LENIENT)
    if crc_type:
        with pytest.raises(MalformedError, match="CRC of the payload block"):
            b7.check_tail(head, tail, value ^ 1)


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 4000, 5000, 65535, 65536, 200_000])
@pytest.mark.parametrize("crc_type", [0, 1, 2])
def test_payload_lengths(length: int, crc_type: int) -> None:
    bundle = b7.Bundle(PRIMARY, (), bytes(length), 0, crc_type)
    data = b7.encode_bundle(bundle)
    assert b7.decode_bundle_untrusted(data) == bundle
    assert b7.decode_bundle_untrusted(memoryview(data)) == bundle


@pytest.mark.parametrize("length", [23, 24, 255, 256, 0xFFFF, 0x1_0000, 0xFFFF_FFFF, 0x1_0000_0000])
def test_a_head_that_is_not_there_whole_is_no_head(length: int) -> None:
    eid = Eid.parse("dtn://a/b")
    primary = b7.PrimaryBlock(0, 2, eid, eid, eid, 1, 2, 3, None, None)
    octets = b7.encode_head(primary, (b7.hop_count_block(30, 0, 2),), length)
    for end in range(len(octets)):
        assert b7.decode_head_untrusted(octets[:end]) is None
    head = b7.decode_head_untrusted(octets)
    assert head is not None
    assert head.payload_length == length
