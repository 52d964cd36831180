"""AMQP 0-9-1: frames, methods, tables and properties, against a codec that nobody here wrote, and hostile octets of each."""

from __future__ import annotations

import datetime
from typing import Any, cast

import pamqp.base
import pamqp.commands
import pamqp.decode
import pamqp.encode
import pamqp.frame
import pamqp.header
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.amqp import (
    FRAME_OVERHEAD_OCTETS,
    HEARTBEAT,
    Frame,
    FrameKind,
    Properties,
    decode_content_header_untrusted,
    decode_method_untrusted,
    decode_table_untrusted,
    encode_content_header,
    encode_frame,
    encode_method,
    encode_table,
    frame_octets,
    split_frames_untrusted,
)
from tumpline.wire.amqp import methods as m
from tumpline.wire.amqp.values import DEPTH_MOST, FIELDS_MOST

TABLE = {
    "text": "é",
    "octets": b"\xff\x00",
    "yes": True,
    "no": False,
    "small": -1,
    "large": 1 << 40,
    "half": 0.5,
    "none": None,
    "list": [1, "two", [3]],
    "table": {"x-expires": 60_000, "inner": {"deep": True}},
}
METHODS = sorted(m.KEYS.items(), key=lambda item: item[1])


# ---- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "octets"),
    [
        (m.BasicAck(7, True), "003c0050" "0000000000000007" "01"),
        (m.BasicPublish(exchange="x", routing_key="a.b", mandatory=True), "003c0028" "0000" "0178" "03612e62" "01"),
        (m.ChannelOpenOk(), "0014000b" "00000000"),
        (m.ConnectionTuneOk(2047, 131_072, 60), "000a001f" "07ff" "00020000" "003c"),
        (
            m.QueueDeclare(queue="q", passive=True, auto_delete=True, no_wait=True),
            "0032000a" "0000" "0171" "19" "00000000",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)  # fmt: skip
def test_octets_by_hand(method: m.Method, octets: str) -> None:
    assert encode_method(method).hex() == octets
    assert decode_method_untrusted(bytes.fromhex(octets)) == method


def drawn(method: type[Any], filled: bool) -> Any:
    """One of this kind: as it is without arguments, or with something in each."""
    if not filled:
        return method()
    kinds = {int: 77, bool: True, str: "word", bytes: b"octets", dict: TABLE}
    return method(*(kinds[type(default)] for default in method()))


@pytest.mark.parametrize(("method", "key"), METHODS, ids=[method.__name__ for method, _ in METHODS])
def test_a_codec_that_nobody_here_wrote_agrees(method: type[Any], key: tuple[int, int]) -> None:
    for filled in (False, True):
        ours = drawn(method, filled)
        octets = encode_method(ours)
        index = key[0] << 16 | key[1]
        theirs = pamqp.commands.INDEX_MAPPING[index]()
        theirs.unmarshal(octets[4:])
        values = [getattr(theirs, name) for name in theirs.attributes()]
        texts = [value.decode() if isinstance(value, bytes) else value for value in ours]
        assert values == [dict(each) if isinstance(each, dict) else each for each in texts]
        assert decode_method_untrusted(octets) == ours


def test_a_method_that_nobody_knows() -> None:
    with pytest.raises(MalformedError, match=r"no method 61\.1"):
        decode_method_untrusted(bytes.fromhex("003d0001"))


def test_octets_behind_the_arguments() -> None:
    with pytest.raises(MalformedError, match="behind the arguments of BasicAck"):
        decode_method_untrusted(encode_method(m.BasicAck(1)) + b"\0")


def test_what_fits_into_no_method() -> None:
    with pytest.raises(ValueError, match="longer than 255"):
        encode_method(m.QueueDeclare(queue="q" * 256))
    with pytest.raises(ValueError, match="out of range"):
        encode_method(m.ConnectionTuneOk(1 << 16))


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_tables_as_others_write_and_read_them() -> None:
    assert decode_table_untrusted(encode_table(TABLE)) == TABLE
    theirs = {**TABLE, "octets": bytearray(b"\xff\x00")}
    _, read = pamqp.decode.field_table(encode_table(TABLE))
    octets = read["octets"]
    assert isinstance(octets, bytearray)
    assert {**read, "octets": bytes(octets)} == TABLE
    written = decode_table_untrusted(pamqp.encode.field_table(cast(Any, theirs)))
    assert written == TABLE


def test_types_of_fields_that_we_do_not_write() -> None:
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    octets = pamqp.encode.field_table({"at": when})
    assert decode_table_untrusted(octets) == {"at": int(when.timestamp())}
    fields = b"\1ab\xff" + b"\1bB\xff" + b"\1cs\xff\xfe" + b"\1du\xff\xfe" + b"\1ei\xff\xff\xff\xff" + b"\1fD\2\0\0\1\0"
    octets = len(fields).to_bytes(4, "big") + fields
    expected = {"a": -1, "b": 255, "c": -2, "d": 0xFFFE, "e": 0xFFFFFFFF, "f": (2, 256)}
    assert decode_table_untrusted(octets) == expected


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        ("00000001", "longer than what carries it"),
        ("00000003" "017a5a", "unknown type"),
        ("00000002" "0561", "octets are to follow"),
        ("00000004" "01615300", "octets are to follow"),
        ("00000003" "016174" "01", "beyond its table"),
        ("00000002" "01ff", "not UTF-8"),
        ("00000000" "00", "octets behind a table"),
    ],
)  # fmt: skip
def test_malformed_tables(octets: str, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        decode_table_untrusted(bytes.fromhex(octets))


def test_tables_are_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(DEPTH_MOST + 1):
        deep = {"d": deep}
    with pytest.raises(MalformedError, match="deep"):
        decode_table_untrusted(encode_table(deep))
    many = {"list": [None] * FIELDS_MOST}
    with pytest.raises(MalformedError, match="more than"):
        decode_table_untrusted(encode_table(many))


def test_what_no_table_holds() -> None:
    with pytest.raises(ValueError, match="cannot hold set"):
        encode_table({"x": {1}})
    with pytest.raises(ValueError, match="out of range"):
        encode_table({"x": 1 << 64})


# ---- content ---------------------------------------------------------------------------------------------------------

PROPERTIES = Properties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={"a": "b"},
    delivery_mode=2,
    priority=3,
    correlation_id="c",
    reply_to="r",
    expiration="100",
    message_id="m",
    timestamp=1_700_000_000,
    type="t",
    user_id="guest",
    app_id="app",
)


@pytest.mark.parametrize("properties", [Properties(), Properties(content_type="application/json"), PROPERTIES])
def test_properties_as_others_write_and_read_them(properties: Properties) -> None:
    octets = encode_content_header(1400, properties)
    assert decode_content_header_untrusted(octets) == (1400, properties)
    theirs = pamqp.header.ContentHeader()
    theirs.unmarshal(octets)
    assert theirs.body_size == 1400
    for name, value in properties._asdict().items():
        found = getattr(theirs.properties, {"type": "message_type"}.get(name, name))
        assert (int(found.timestamp()) if name == "timestamp" and found else found or None) == (value or None)
    assert pamqp.frame.marshal(theirs, 1) == encode_frame(FrameKind.HEADER, 1, octets)


@pytest.mark.parametrize(
    "octets",
    [
        "003c",
        "000a0000" "0000000000000000" "0000",
        "003c0000" "0000000000000000" "0001",
        "003c0000" "0000000000000000" "8000",
        "003c0000" "0000000000000000" "0000" "00",
    ],
    ids=["cut", "class", "more flags", "absent", "behind"],
)  # fmt: skip
def test_malformed_content_headers(octets: str) -> None:
    with pytest.raises(MalformedError):
        decode_content_header_untrusted(bytes.fromhex(octets))


# ---- frames ----------------------------------------------------------------------------------------------------------


def test_frames_in_a_row() -> None:
    data = HEARTBEAT + encode_frame(FrameKind.BODY, 1, b"body") + encode_frame(FrameKind.METHOD, 2, b"half")[:-1]
    frames, taken = split_frames_untrusted(memoryview(data), 4096)
    assert frames == [Frame(FrameKind.HEARTBEAT, 0, memoryview(b"")), Frame(FrameKind.BODY, 1, memoryview(b"body"))]
    assert taken == len(data) - (FRAME_OVERHEAD_OCTETS + 4 - 1)
    assert frame_octets(data[taken:]) == FRAME_OVERHEAD_OCTETS + 4
    assert HEARTBEAT.hex() == "080000" "00000000" "ce"  # fmt: skip


def test_frames_that_end_the_connection() -> None:
    with pytest.raises(MalformedError, match="ends with 0xcd"):
        split_frames_untrusted(memoryview(HEARTBEAT[:-1] + b"\xcd"), 4096)
    with pytest.raises(MalformedError, match="4096 were agreed"):
        split_frames_untrusted(memoryview(bytes.fromhex("0100010000fff900")), 4096)
    longest = encode_frame(FrameKind.BODY, 1, bytes(4096 - FRAME_OVERHEAD_OCTETS))
    assert split_frames_untrusted(memoryview(longest), 4096)[1] == 4096


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(0, 300))
def test_frames_wherever_they_are_cut(payloads: list[bytes], cut: int) -> None:
    data = b"".join(encode_frame(FrameKind.BODY, number, payload) for number, payload in enumerate(payloads))
    first, taken = split_frames_untrusted(memoryview(data[:cut]), 4096)
    rest, _ = split_frames_untrusted(memoryview(data[taken:]), 4096)
    assert [bytes(frame.payload) for frame in first + rest] == payloads


# ---- hostile octets --------------------------------------------------------------------------------------------------

WHOLE = [encode_method(drawn(method, True)) for method, _ in METHODS] + [encode_content_header(9, PROPERTIES)]


@given(st.sampled_from(WHOLE), st.data())
def test_altered_octets(octets: bytes, data: st.DataObject) -> None:
    altered = bytearray(octets)
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(altered[: data.draw(st.integers(0, len(altered)))])
    for decode in (decode_method_untrusted, decode_content_header_untrusted, decode_table_untrusted):
        try:
            decode(cut)
        except MalformedError:
            pass
