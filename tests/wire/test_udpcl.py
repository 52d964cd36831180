"""UDPCL datagrams against the samples of the draft's fact base, and against hostile octets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import (
    ITEMS_MOST,
    KEEPALIVE,
    MAPS_MOST,
    Confirmation,
    Datagram,
    EcnCounts,
    Extensions,
    Kind,
    Probe,
    Transfer,
    decode_datagram_untrusted,
    encode_datagram,
    encode_extensions,
    is_handshake,
    kind_of,
    transfer_head,
)
from tumpline.wire.udpcl_range import (
    NUMBERS_MOST,
    certain,
    check_range,
    intervals_of,
    read_as_counts,
    read_as_example,
    read_by_rule,
    write_range,
)

# ipn:1.1 -> ipn:2.1, payload "hi"
BUNDLE = bytes.fromhex(
    "9f89070402820282020182028201018202820100821b000000bd51281400001a0036ee8044f21ab4898601010002426869441ff585a4ff"
)


def decode(text: str) -> Datagram:
    return decode_datagram_untrusted(bytes.fromhex(text))


def only(text: str) -> Extensions:
    (extensions,) = decode(text).maps
    return extensions


# ---- samples ---------------------------------------------------------------------------------------------------------


def test_an_unframed_bundle_is_the_datagram() -> None:
    assert decode_datagram_untrusted(BUNDLE) == Datagram(Kind.BUNDLE7, BUNDLE)


SAMPLES = {
    "a10282005837" + BUNDLE.hex(): Extensions(transfer=Transfer(0, BUNDLE)),
    "a102840118370058289f89070402820282020182028201018202820100821b000000bd51281400001a0036ee8044f21ab4": Extensions(
        transfer=Transfer(1, BUNDLE[:40], 55, 0)
    ),
    "a1028401183718284f898601010002426869441ff585a4ff": Extensions(transfer=Transfer(1, BUNDLE[40:], 55, 40)),
    "a30182010703192710046769706e3a312e30": Extensions(support=(1, 7), listen_ms=10_000, node_id=Eid.parse("ipn:1.0")),
    "a105f6": Extensions(dtls=True),
    "a10683187b041907d0": Extensions(probe=Probe(123, 4, 2000)),
    "a20782187b84020000020883001101": Extensions(
        confirmation=Confirmation(123, (2, 0, 0, 2)), ecn_counts=EcnCounts(0, 17, 1)
    ),
}


@pytest.mark.parametrize(("text", "extensions"), SAMPLES.items(), ids=range(len(SAMPLES)))
def test_the_samples_in_both_directions(text: str, extensions: Extensions) -> None:
    assert only(text) == extensions
    assert encode_extensions(extensions).hex() == text


def test_a_probe_is_padded_to_its_size() -> None:
    data = bytes.fromhex("a10683187b041907d0") + bytes(55)
    assert len(data) == 64
    probe = Datagram(Kind.EXTENSIONS, maps=(Extensions(probe=Probe(123, 4, 2000)),), padding_octets=55)
    assert decode_datagram_untrusted(data) == probe
    assert encode_datagram(probe) == data


def test_several_maps_and_padding_that_is_not_zero() -> None:
    datagram = decode("a10282004101" + "a10282014102" + "00ffa1")
    assert [each.transfer for each in datagram.maps] == [Transfer(0, b"\1"), Transfer(1, b"\2")]
    assert datagram.padding_octets == 3


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (0x00, Kind.PADDING),
        (0x06, Kind.BUNDLE6),
        (0x13, None),
        (0x14, Kind.DTLS),
        (0x1A, Kind.DTLS),
        (0x1B, None),
        (0x20, Kind.DTLS),
        (0x3F, Kind.DTLS),
        (0x40, None),
        (0x7F, None),
        (0x80, Kind.BUNDLE7),
        (0x9F, Kind.BUNDLE7),
        (0xA0, Kind.EXTENSIONS),
        (0xBF, Kind.EXTENSIONS),
        (0xC0, None),
        (0xD9, None),  # a tag: the sender strips it
        (0xFF, None),
    ],
)
def test_the_first_octet_tells_what_it_is(first: int, kind: Kind | None) -> None:
    assert kind_of(first) is kind


def test_what_rfc_7122_sends_is_understood() -> None:
    assert decode_datagram_untrusted(KEEPALIVE).kind is Kind.KEEPALIVE
    assert decode_datagram_untrusted(bytes(5)).kind is Kind.PADDING
    assert decode("0600") == Datagram(Kind.BUNDLE6, b"\x06\x00")
    assert encode_datagram(Datagram(Kind.KEEPALIVE, padding_octets=4)) == KEEPALIVE


def test_dtls_records_are_told_apart() -> None:
    record = bytes.fromhex("16fefd00000000000000000001aa")
    assert decode_datagram_untrusted(record) == Datagram(Kind.DTLS, record)
    assert is_handshake(record)
    assert not is_handshake(b"\x2f\0\0")


def test_forms_that_are_not_shortest_are_taken() -> None:
    assert only("bf1802820041aaff").transfer == Transfer(0, b"\xaa")
    assert only("a1029f0041aaff").transfer == Transfer(0, b"\xaa")
    assert only("a1029f00010041aaff").transfer == Transfer(0, b"\xaa", 1, 0)
    assert only("a10782009f0000ff").confirmation == Confirmation(0, (0, 0))


def test_unknown_keys_are_told_and_the_known_ones_count() -> None:
    extensions = only("a4" + "03197530" + "0963666f6f" + "3900ff82f6a0" + "00f4")
    assert extensions == Extensions(listen_ms=30_000, unknown=(-256, 0, 9))


# ---- what is not taken -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "an empty datagram"),
        ("40", "no message begins with octet 0x40"),
        ("a0", "without an item"),
        ("bfff", "without an item"),
        ("a1", "end"),
        ("a102", "end"),
        ("a1028200", "end"),
        ("a1028200580aff", "end"),
        ("a203010302", "key 3 is doubled"),
        ("a2030118030a", "key 3 is doubled"),
        ("a119800001", "no integer from -32768 to 32767"),
        ("a139800001", "no integer from -32768 to 32767"),
        ("a1617801", "no integer from"),
        ("a205f60301", "a DTLS initiation with other items"),
        ("a105f6a10301", "no other beside it"),
        ("a10683000000" + "a10301", "no other beside it"),
        ("a10301" + "9f", "octet 0x9f at 3 begins neither a map nor padding"),
        ("a10301" + "16", "octet 0x16 at 3"),
        ("a109" + "81" * 40 + "00", "nests more than"),
        ("a10301" * (MAPS_MOST + 1), f"more than {MAPS_MOST} extension maps"),
        ("b821" + "".join(f"18{key:02x}00" for key in range(30, 31 + ITEMS_MOST)), f"more than {ITEMS_MOST} items"),
    ],
)
def test_what_does_not_follow_the_grammar_is_refused(text: str, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        decode(text)


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("0260", "TRANSFER: the transfer"),
        ("0280", "TRANSFER"),
        ("02820040", "0 octets at 0 are no part of None"),
        ("0282006161", "not a byte string"),
        ("0283000141aa", "TRANSFER"),
        ("0284000100" + "42aabb", "2 octets at 0 are no part of 1"),
        ("0284000101" + "41aa", "1 octets at 1 are no part of 1"),
        ("028420010041aa", "its number at"),
        ("0282005f41aaff", "not a byte string of definite length"),
        ("0320", "LISTEN: the interval"),
        ("0441aa", "NODE_ID: the node ID"),
        ("046178", "NODE_ID: 'x' is no endpoint ID"),
        ("04" + "67" + b"ipn:1.1".hex(), "NODE_ID: ipn:1.1 names no node"),
        ("04" + "790401" + "61" * 1025, "1025 octets, at most 1024"),
        ("05f4", "DTLS: the value is not null"),
        ("0684000102" + "03", "PROBE: the list does not have 3 items"),
        ("0683000120", "PROBE: a number"),
        ("078100", "CONFIRMATION"),
        ("0782008100", "2 to 256, not 1"),
        ("07820080", "2 to 256, not 0"),
        ("0782008241aa00", "something else than integers"),
        ("0782008400002000", "negative width"),
        ("08820000", "ECN_COUNTS"),
        ("0883001b000000010000000000", "not below 4294967296"),
        ("018120", "2 to 256, not 1"),
    ],
)
def test_a_known_item_of_another_type_is_left_out(item: str, why: str) -> None:
    extensions = only("a1" + item)
    (dropped,) = extensions.dropped
    assert why in dropped
    assert extensions._replace(dropped=()) == Extensions()


def test_a_dropped_item_leaves_the_others() -> None:
    extensions = only("a2" + "0260" + "03190bb8")
    assert extensions.listen_ms == 3000
    assert extensions.transfer is None
    assert len(extensions.dropped) == 1


def test_a_range_is_bounded() -> None:
    check_range((0,) * NUMBERS_MOST)
    with pytest.raises(MalformedError, match="not 258"):
        check_range((0,) * (NUMBERS_MOST + 2))
    text = "a1078200" + "990102" + "00" * 258
    assert "more than 256 numbers" in only(text).dropped[0]


# ---- ranges ----------------------------------------------------------------------------------------------------------

SET = (2, 4, 5, 6)


def test_three_ways_to_write_one_range() -> None:
    intervals = ((2, 2), (4, 6))
    assert read_by_rule((2, 0, 0, 2)) == intervals
    assert read_as_example((2, 0, 0, 0, 0, 2)) == intervals
    assert read_as_counts((2, 1, 1, 3)) == intervals
    assert write_range(intervals) == (2, 0, 0, 2)
    assert read_by_rule((1, 7)) == ((1, 8),)
    assert read_by_rule((-32_768, 98_303)) == ((-32_768, 65_535),)


@pytest.mark.parametrize("numbers", [(2, 0, 0, 2), (2, 0, 0, 0, 0, 2), (2, 1, 1, 3)])
def test_what_was_asked_tells_which_way_was_meant(numbers: tuple[int, ...]) -> None:
    assert certain(numbers, range(7)) == frozenset(SET)


def test_where_the_ways_disagree_only_the_common_part_is_certain() -> None:
    assert certain((0, 0), [0]) == {0}
    assert certain((0, 1), [0]) == {0}  # counted: by the rule it would be 0 and 1, and there was no 1
    assert certain((0, 1), [0, 1]) == {0}
    assert certain((7, 0), [0]) == frozenset()
    assert certain((0, 2**64 - 1), [0]) == frozenset()


def test_ways_that_do_not_apply() -> None:
    assert read_as_example((2, 0, 0, 2)) is None
    assert read_as_example((2, 0, 1, 0, 0, 2)) is None
    assert read_as_counts((2, 0)) is None
    assert read_as_counts((0, 1, 0, 1)) is None


@given(st.sets(st.integers(0, 300), min_size=1, max_size=60))
def test_every_set_is_found_again(values: set[int]) -> None:
    intervals = intervals_of(sorted(values, reverse=True))
    numbers = write_range(intervals)
    check_range(numbers)
    assert read_by_rule(numbers) == intervals
    assert certain(numbers, sorted(values)) <= values
    counts: list[int] = []
    after = 0
    for first, last in intervals:
        counts += (first - after, last - first + 1)
        after = last + 1
    assert read_as_counts(counts) == intervals
    example = [numbers[0], *(part for width in numbers[1:] for part in (width, 0))][:-1]
    assert read_as_example(example) == intervals


@given(st.sets(st.integers(0, 30), min_size=1), st.lists(st.integers(0, 5), min_size=2, max_size=8))
def test_nothing_is_certain_that_was_not_asked(asked: set[int], numbers: list[int]) -> None:
    assert certain(numbers[: len(numbers) & ~1], sorted(asked)) <= asked


# ---- properties ------------------------------------------------------------------------------------------------------

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
RANGES = st.tuples(st.integers(-(2**15), 2**16), st.lists(st.integers(0, 2**20), max_size=8)).map(
    lambda found: (found[0], *found[1], *([0] if len(found[1]) % 2 == 0 else []))
)


@st.composite
def transfers(draw: st.DrawFn) -> Transfer:
    data = draw(st.binary(min_size=1, max_size=100))
    if draw(st.booleans()):
        return Transfer(draw(U64), data)
    offset = draw(st.integers(0, 2**40))
    return Transfer(draw(U64), data, draw(st.integers(offset + len(data), 2**41)), offset)


def with_items(**items: Any) -> Extensions:
    return Extensions(**items)


# Not st.builds(Extensions, ...): of a NamedTuple it would make up the fields that have defaults as well.
EXTENSIONS = st.fixed_dictionaries(
    {},
    optional={
        "support": RANGES,
        "transfer": transfers(),
        "listen_ms": U64,
        "node_id": st.sampled_from(["ipn:1.0", "ipn:977000.4.0", "dtn://node/"]).map(Eid.parse),
        "confirmation": st.builds(Confirmation, U64, RANGES),
        "ecn_counts": st.builds(EcnCounts, U32, U32, U32),
    },
).map(lambda items: with_items(**items) if items else Extensions(listen_ms=0))
PROBES = st.builds(Probe, U64, U64, U64).map(lambda probe: Extensions(probe=probe))
DATAGRAMS = st.builds(
    lambda maps, padding_octets: Datagram(Kind.EXTENSIONS, b"", tuple(maps), padding_octets),
    st.lists(EXTENSIONS, min_size=1, max_size=5) | st.tuples(PROBES),
    st.integers(0, 50),
)


@given(DATAGRAMS)
def test_every_datagram_comes_back(datagram: Datagram) -> None:
    assert decode_datagram_untrusted(encode_datagram(datagram)) == datagram


@given(transfers())
def test_the_head_of_a_transfer_is_what_the_map_begins_with(transfer: Transfer) -> None:
    head = transfer_head(transfer.number, len(transfer.data), transfer.total, transfer.offset)
    assert head + transfer.data == encode_extensions(Extensions(transfer=transfer))


@given(DATAGRAMS, st.data())
def test_altered_octets_raise_nothing_but_malformed_error(datagram: Datagram, draw: st.DataObject) -> None:
    data = bytearray(encode_datagram(datagram))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    cut = bytes(data[: draw.draw(st.integers(1, len(data)))])
    try:
        decode_datagram_untrusted(cut)
    except MalformedError:
        return


@given(st.sampled_from([0xA1, 0xA2, 0xBF]), st.integers(0, 9), st.binary(max_size=60))
def test_nothing_but_malformed_error(first: int, key: int, data: bytes) -> None:
    try:
        decode_datagram_untrusted(bytes([first, key]) + data)
    except MalformedError:
        return
