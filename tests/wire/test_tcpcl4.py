"""TCPCLv4 messages against octets laid out by hand from the figures of RFC 9174."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire import tcpcl4 as wire

U8 = st.integers(0, 0xFF)
U16 = st.integers(0, 0xFFFF)
U64 = st.integers(0, (1 << 64) - 1)


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


INIT = wire.SessionInit(
    keepalive_s=30,
    segment_mru=0x1000,
    transfer_mru=0x1_0000_0000,
    node_id=b"dtn://a/",
    extensions=octets("01 8001 0002 beef"),
)
# message, its octets field by field
MESSAGES: list[tuple[Any, Callable[[Any], bytes], Callable[[memoryview, int], tuple[Any, int] | None], str]] = [
    (
        INIT,
        wire.encode_init,
        wire.decode_init_untrusted,
        "07 001e 0000000000001000 0000000100000000 0008 64746e3a2f2f612f 00000007 01 8001 0002 beef",
    ),
    (
        wire.SessionInit(0, 0, 0, b""),
        wire.encode_init,
        wire.decode_init_untrusted,
        "07 0000 0000000000000000 0000000000000000 0000 00000000",
    ),
    (
        wire.SegmentHead(3, 5, b"", 4),
        wire.encode_segment_head,
        wire.decode_segment_untrusted,
        "01 03 0000000000000005 00000000 0000000000000004",
    ),
    (
        wire.SegmentHead(2, 1, octets("00 0001 0008 00000000000186a0"), 100),
        wire.encode_segment_head,
        wire.decode_segment_untrusted,
        "01 02 0000000000000001 0000000d 00 0001 0008 00000000000186a0 0000000000000064",
    ),
    (
        wire.SegmentHead(0, 1, b"", 2**64 - 1),
        wire.encode_segment_head,
        wire.decode_segment_untrusted,
        "01 00 0000000000000001 ffffffffffffffff",
    ),
    (
        wire.SegmentHead(1, 2**64 - 1, b"", 0),
        wire.encode_segment_head,
        wire.decode_segment_untrusted,
        "01 01 ffffffffffffffff 0000000000000000",
    ),
    (
        wire.Acknowledgment(3, 5, 1800),
        wire.encode_ack,
        wire.decode_ack_untrusted,
        "02 03 0000000000000005 0000000000000708",
    ),
    (wire.Refusal(4, 9), wire.encode_refusal, wire.decode_refusal_untrusted, "03 04 0000000000000009"),
    (wire.Termination(1, 5), wire.encode_termination, wire.decode_termination_untrusted, "05 01 05"),
    (wire.Rejection(3, 7), wire.encode_rejection, wire.decode_rejection_untrusted, "06 03 07"),
]
IDS = [f"{type(message).__name__}-{index}" for index, (message, *_) in enumerate(MESSAGES)]


@pytest.mark.parametrize(("message", "encode", "decode", "text"), MESSAGES, ids=IDS)
def test_message(message: Any, encode: Any, decode: Any, text: str) -> None:
    encoded = octets(text)
    assert encode(message) == encoded
    assert decode(memoryview(b"\xff" + encoded + b"\xff"), 1) == (message, len(encoded) + 1)


@pytest.mark.parametrize(("message", "encode", "decode", "text"), MESSAGES, ids=IDS)
def test_message_cut_short_is_waited_for(message: Any, encode: Any, decode: Any, text: str) -> None:
    encoded = octets(text)
    assert [decode(memoryview(encoded[:length]), 0) for length in range(len(encoded))] == [None] * len(encoded)


def test_contact_header() -> None:
    assert wire.encode_contact(wire.ContactHeader(4, wire.CAN_TLS)) == octets("64746e21 04 01")
    header = wire.decode_contact_untrusted(octets("64746e21 04 fe"))
    assert header == (4, 0xFE)
    assert not header.can_tls  # reserved bits are ignored
    assert wire.decode_contact_untrusted(octets("64746e21 04 ff")).can_tls


@pytest.mark.parametrize("text", ["64746e20 04 00", "47455420 2f 20", "64746e21 04", "64746e21 04 00 00"])
def test_no_contact_header(text: str) -> None:
    with pytest.raises(MalformedError):
        wire.decode_contact_untrusted(octets(text))


def test_constants() -> None:
    assert wire.KEEPALIVE == b"\x04"
    assert wire.encode_transfer_length(100_000) == octets("00 0001 0008 00000000000186a0")
    assert wire.SEGMENT_WHOLE.pack(1, 3, 5, 0, 4) == wire.encode_segment_head(wire.SegmentHead(3, 5, b"", 4))


def test_extension_items() -> None:
    data = octets("01 8001 0002 beef 00 0001 0000")
    items = [wire.ExtensionItem(1, 0x8001, b"\xbe\xef"), wire.ExtensionItem(0, 1, b"")]
    assert wire.decode_extensions_untrusted(data) == items
    assert wire.encode_extensions(items) == data
    assert [item.is_critical for item in items] == [True, False]
    assert wire.decode_extensions_untrusted(b"") == []


@pytest.mark.parametrize("text", ["01", "01 8001 00", "01 8001 0003 beef", "00 0001 0000 01"])
def test_extension_items_that_disagree_with_their_length(text: str) -> None:
    with pytest.raises(MalformedError):
        wire.decode_extensions_untrusted(octets(text))


@pytest.mark.parametrize("value", ["", "00", "00000000000000", "000000000000000000"])
def test_transfer_length_of_a_wrong_size(value: str) -> None:
    with pytest.raises(MalformedError):
        wire.decode_transfer_length_untrusted(wire.ExtensionItem(0, 1, octets(value)))


@pytest.mark.parametrize(
    ("decode", "text"),
    [
        (wire.decode_init_untrusted, "07 001e 0000000000001000 0000000100000000 ffff"),
        (wire.decode_init_untrusted, "07 001e 0000000000001000 0000000100000000 0000 00010000"),
        (wire.decode_segment_untrusted, "01 02 0000000000000001 00001001 00000000"),
    ],
)
def test_lists_that_nobody_will_hold(decode: Any, text: str) -> None:
    with pytest.raises(wire.OversizeError):
        decode(memoryview(octets(text)), 0)


def test_unknown_codes_read_as_unknown() -> None:
    assert wire.RefusalCode(0x77) is wire.RefusalCode.UNKNOWN
    assert wire.TerminationCode(0xF0) is wire.TerminationCode.UNKNOWN
    assert wire.RejectionCode(4) is wire.RejectionCode.RESERVED
    assert [code.value for code in wire.RefusalCode] == list(range(7))
    assert [code.value for code in wire.TerminationCode] == list(range(6))


@given(U16, U64, U64, st.binary(max_size=60), st.lists(st.builds(wire.ExtensionItem, U8, U16, st.binary(max_size=9))))
def test_init_round_trip(
    keepalive_s: int, segment_mru: int, transfer_mru: int, node_id: bytes, items: list[wire.ExtensionItem]
) -> None:
    message = wire.SessionInit(keepalive_s, segment_mru, transfer_mru, node_id, wire.encode_extensions(items))
    encoded = wire.encode_init(message)
    assert wire.decode_init_untrusted(memoryview(encoded), 0) == (message, len(encoded))
    assert wire.decode_extensions_untrusted(message.extensions) == items


@given(U8, U64, U64, st.lists(st.builds(wire.ExtensionItem, U8, U16, st.binary(max_size=9))))
def test_segment_round_trip(flags: int, transfer: int, length: int, items: list[wire.ExtensionItem]) -> None:
    extensions = wire.encode_extensions(items) if flags & wire.SegmentFlag.START else b""
    head = wire.SegmentHead(flags, transfer, extensions, length)
    encoded = wire.encode_segment_head(head)
    assert wire.decode_segment_untrusted(memoryview(encoded), 0) == (head, len(encoded))


@given(st.binary(max_size=80), st.sampled_from([decode for _, _, decode, _ in MESSAGES]))
def test_any_octets_give_only_malformed_error(data: bytes, decode: Any) -> None:
    try:
        parsed = decode(memoryview(data), 0)
    except MalformedError:
        return
    assert parsed is None or parsed[1] <= len(data)
