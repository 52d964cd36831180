"""Octets that members of an overlay exchange about bundles."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tumpline.errors import MalformedError
from tumpline.wire.overlay_bundles import (
    HEAD_OCTETS,
    NODE_ID_OCTETS_MOST,
    REFUSED_OCTETS,
    SEGMENT_HEAD_OCTETS,
    START_OCTETS,
    TEXT_OCTETS_MOST,
    WHOLE_HEAD_OCTETS,
    Abort,
    Ending,
    MessageHead,
    MessageKind,
    Opening,
    RefusalCode,
    Refused,
    Segment,
    Start,
    Stored,
    Whole,
    decode_head_untrusted,
    decode_opening_untrusted,
    decode_records_untrusted,
    decode_text_untrusted,
    encode_abort,
    encode_ending,
    encode_head,
    encode_opening,
    encode_refused,
    encode_start,
    encode_stored,
    encode_text,
    segment_head,
    whole_head,
)

RECORDS = {
    "01 0000000000000005 00000003 616263": (whole_head(5, 3) + b"abc", Whole(5, memoryview(b"abc"))),
    "02 0000000000000006 0000000000030000": (encode_start(6, 0x30000), Start(6, 0x30000)),
    "03 0000000000000006 00000002 6465": (segment_head(6, 2) + b"de", Segment(6, memoryview(b"de"))),
    "04 0000000000000006": (encode_abort(6), Abort(6)),
    "05 00000002 0000000000000001 0000000000000003": (encode_stored([1, 3]), Stored((1, 3))),
    "06 0000000000000002 01": (encode_refused(2, RefusalCode.NO_RESOURCES), Refused(2, 1)),
    "07 00000003 627965": (encode_ending("bye"), Ending("bye")),
}


@pytest.mark.parametrize("text", RECORDS)
def test_records_by_the_octet(text: str) -> None:
    octets, record = RECORDS[text]
    assert octets == bytes.fromhex(text)
    assert decode_records_untrusted(memoryview(octets)) == [record]


def test_records_one_behind_the_other() -> None:
    octets = b"".join(octets for octets, _ in RECORDS.values())
    assert decode_records_untrusted(memoryview(octets)) == [record for _, record in RECORDS.values()]
    assert decode_records_untrusted(memoryview(b"")) == []


def test_sizes_are_those_of_the_octets() -> None:
    assert len(whole_head(1, 1)) == WHOLE_HEAD_OCTETS
    assert len(segment_head(1, 1)) == SEGMENT_HEAD_OCTETS
    assert len(encode_start(1, 1)) == START_OCTETS
    assert len(encode_refused(1, RefusalCode.COMPLETED)) == REFUSED_OCTETS


def test_head_by_the_octet() -> None:
    head = MessageHead(MessageKind.DATA, 0x11, 0x22, 7, 6)
    text = "01 02 0000000000000011 0000000000000022 0000000000000007 0000000000000006"
    assert encode_head(head) == bytes.fromhex(text)
    assert len(encode_head(head)) == HEAD_OCTETS
    assert decode_head_untrusted(memoryview(encode_head(head))) == head


def test_opening_by_the_octet() -> None:
    opening = Opening("dtn://a/", 1 << 32, 10, 1 << 20)
    assert encode_opening(opening) == bytes.fromhex("0000000100000000 0000000a 0000000000100000") + b"dtn://a/"
    assert decode_opening_untrusted(memoryview(encode_opening(opening))) == opening


def test_sentences_are_cut_between_characters() -> None:
    text = encode_text("ä" * TEXT_OCTETS_MOST + "x")
    assert len(text) == TEXT_OCTETS_MOST
    assert decode_text_untrusted(memoryview(encode_text("xä" * TEXT_OCTETS_MOST))).endswith("x")


@pytest.mark.parametrize(
    ("decode", "text"),
    [
        (decode_head_untrusted, "01 02"),
        (decode_head_untrusted, "02 02" + "00" * 32),
        (decode_head_untrusted, "01 00" + "00" * 32),
        (decode_opening_untrusted, "00" * 19),
        (decode_opening_untrusted, "00" * 20),
        (decode_opening_untrusted, "0000000100000000 0000000a 0000000000100000 ff"),
        (decode_opening_untrusted, "0000000100000000 0000000a 0000000000100000" + "61" * (NODE_ID_OCTETS_MOST + 1)),
        (decode_text_untrusted, "61" * (TEXT_OCTETS_MOST + 1)),
        (decode_text_untrusted, "ff"),
        (decode_records_untrusted, "00"),
        (decode_records_untrusted, "08"),
        (decode_records_untrusted, "01 00"),
        (decode_records_untrusted, "01 0000000000000005 00000004 616263"),
        (decode_records_untrusted, "03 0000000000000005 ffffffff 616263"),
        (decode_records_untrusted, "05 ffffffff 0000000000000001"),
        (decode_records_untrusted, "05 00000002 0000000000000001"),
        (decode_records_untrusted, "06 0000000000000002"),
        (decode_records_untrusted, "07 00000003 ffffff"),
        (decode_records_untrusted, "07 00000004 627965"),
    ],
)
def test_malformed_octets_are_named(decode: Callable[[memoryview], Any], text: str) -> None:
    with pytest.raises(MalformedError, match="overlay bundles: "):
        decode(memoryview(bytes.fromhex(text)))


def test_mutated_records_raise_nothing_else() -> None:
    whole = b"".join(octets for octets, _ in RECORDS.values())
    chance = random.Random(6)
    outcomes = set()
    for _ in range(3000):
        octets = bytearray(whole[: chance.randrange(1, len(whole) + 1)])
        octets[chance.randrange(len(octets))] = chance.randrange(256)
        try:
            outcomes.add(len(decode_records_untrusted(memoryview(octets))) > 0)
        except MalformedError:
            outcomes.add(False)
    assert outcomes == {True, False}
