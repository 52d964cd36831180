"""What a radio knows of a frame, in ten octets and before captured frames; and what probes say on their lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.packets import NO_OFFLOAD, OFFLOAD_OCTETS
from tumpline.wire.dot15d4 import decode_head_untrusted
from tumpline.wire.dot15d4_tap import encode_tap
from tumpline.wire.radio import NOTHING_KNOWN, RadioFacts, decode_facts_untrusted, encode_facts
from tumpline.wire.sensniff import MAGIC, Head, decode_head, encode_set_channel, find_magic
from tumpline.wire.slip_radio import (
    Address,
    Frame,
    Param,
    Report,
    Text,
    Value,
    decode_message,
    encode_ask,
    encode_send,
    encode_set,
)

FACTS = st.builds(
    RadioFacts,
    st.none() | st.integers(-128, 127),
    st.none() | st.integers(0, 255),
    st.none() | st.integers(0, 65535),
    st.just(0),
    st.none() | st.binary(min_size=2, max_size=2),
)


@given(FACTS)
def test_facts_come_back(facts: RadioFacts) -> None:
    octets = encode_facts(facts)
    assert len(octets) == OFFLOAD_OCTETS
    assert decode_facts_untrusted(octets) == facts


def test_nothing_known_is_no_offload() -> None:
    assert encode_facts(NOTHING_KNOWN) == NO_OFFLOAD
    assert decode_facts_untrusted(NO_OFFLOAD) is NOTHING_KNOWN


@given(st.binary(min_size=OFFLOAD_OCTETS, max_size=OFFLOAD_OCTETS))
def test_any_ten_octets_are_facts(octets: bytes) -> None:
    facts = decode_facts_untrusted(octets)
    assert decode_facts_untrusted(encode_facts(facts)) == facts


@pytest.mark.parametrize(
    ("facts", "octets"),
    [
        (RadioFacts(), "00000c00" + "0000010000000000"),
        (RadioFacts(fcs=b"ab"), "00000c00" + "0000010001000000"),
        (
            RadioFacts(-71, 96, 26),
            "00002400" + "0000010000000000" + "0100040000008ec2" + "030003001a000000" + "0a00010060000000",
        ),
    ],
)
def test_tap_heads(facts: RadioFacts, octets: str) -> None:
    assert encode_tap(facts).hex() == octets


# ---- slip-radio -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"!R\x03\x02\x04", Report(3, 2, 4)),
        (b"!V\x00\x01\x00\x1a", Value(Param.CHANNEL, 26)),
        (b"!M" + bytes(range(8)), Address(bytes(range(8)))),
        (b"\rradio: setting channel: 26\n", Text("radio: setting channel: 26")),
        (b"EUnknown command", Text("EUnknown command")),
        (b"!Q\x80", Text("!Q\ufffd")),
        (b"\x02\x00\x21", Frame(b"\x02\x00\x21")),
        (bytes.fromhex("21c807cdab") + bytes(20), Frame(bytes.fromhex("21c807cdab") + bytes(20))),
    ],
)
def test_messages_of_slip_radio(octets: bytes, message: object) -> None:
    assert decode_message(octets) == message


def test_commands_to_slip_radio() -> None:
    assert encode_send(5, b"frame") == b"!S\x05\x00frame"
    assert encode_set(Param.PAN_ID, 0xABCD) == b"!V\x00\x02\xab\xcd"
    assert encode_ask(Param.CHANNEL) == b"?V\x00\x01"


@given(st.binary(min_size=3, max_size=127))
def test_no_frame_with_a_head_is_taken_for_a_command(octets: bytes) -> None:
    message = decode_message(octets)
    if isinstance(message, Frame | Text):
        return
    # All that begin like a command have a reserved addressing mode, or are of a type without such a head.
    with pytest.raises(Exception, match=r"802\.15\.4"):
        decode_head_untrusted(octets)


# ---- sensniff -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "head"),
    [
        ("c11ffe72", None),
        ("c11ffe7201", None),
        ("c11ffe720100", None),
        ("c11ffe72010005", Head(1, 0, 7, 5)),
        ("c11ffe7202000005", Head(2, 0, 8, 5)),
        ("c11ffe72027f0000", Head(2, 0x7F, 8, 0)),
        ("536e696609", Head(0, 0, 5, 9)),
    ],
)
def test_heads_of_sensniff(octets: str, head: Head | None) -> None:
    assert decode_head(bytes.fromhex(octets)) == head


def test_commands_to_sensniff() -> None:
    assert encode_set_channel(1, 26).hex() == "c11ffe720182011a"
    assert encode_set_channel(2, 26).hex() == "c11ffe720284" + "0001" + "1a"


@pytest.mark.parametrize(
    ("octets", "at"),
    [
        (b"", 0),
        (b"hello\r\n", 7),
        (b"hello\xc1\x1f", 5),
        (b"x" + MAGIC, 1),
        (b"Sni", 0),
        (b"Snix", 4),
        (b"\xc1\xc1", 1),
    ],
)
def test_where_a_message_may_begin(octets: bytes, at: int) -> None:
    assert find_magic(octets) == at
