"""Drawn messages are decoded to what they say, and every form turns up."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.generate_tcpcl4 import Message, decode_message_untrusted, draw_message
from tumpline.wire.tcpcl4 import MessageType, RefusalCode, TerminationCode


def drawn(count: int = 3000) -> list[Message]:
    chance = random.Random(1)
    return [draw_message(chance) for _ in range(count)]


@given(st.integers(0, 2**32))
def test_what_is_drawn_is_decoded_to_the_same(seed: int) -> None:
    message = draw_message(random.Random(seed))
    octets = message.encode()
    assert decode_message_untrusted(memoryview(octets + b"\xff")) == (message, len(octets))
    for cut in {0, 1, len(octets) // 2, len(octets) - 1} - {len(octets)}:
        assert decode_message_untrusted(memoryview(octets[:cut])) is None


def test_every_type_and_every_reason_turns_up() -> None:
    messages = drawn()
    assert {message.type for message in messages} == set(MessageType)
    refusals = {each.value.reason for each in messages if isinstance(each.value, wire.Refusal)}
    assert refusals == {*RefusalCode, 0xF0}
    assert {each.value.reason for each in messages if isinstance(each.value, wire.Termination)} == {
        *TerminationCode,
        0xF0,
    }
    segments = [each.value for each in messages if isinstance(each.value, wire.SegmentHead)]
    assert {head.flags for head in segments} == {0, 1, 2, 3}


def test_extension_lists_are_well_formed() -> None:
    lists = [each.value.extensions for each in drawn() if isinstance(each.value, wire.SessionInit | wire.SegmentHead)]
    items = [item for octets in lists for item in wire.decode_extensions_untrusted(octets)]
    assert {item.is_critical for item in items} == {True, False}


def test_octets_that_begin_no_message_are_malformed() -> None:
    with pytest.raises(MalformedError, match="0x08 begins no message"):
        decode_message_untrusted(memoryview(b"\x08rest"))
