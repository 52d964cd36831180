"""CBOR heads, the scanner that lets only well-formed items through, and the cursor."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire import cbor

# RFC 8949 Appendix A, integers
UINTS = [
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (255, "18ff"),
    (256, "190100"),
    (1000, "1903e8"),
    (65535, "19ffff"),
    (65536, "1a00010000"),
    (1000000, "1a000f4240"),
    (2**32 - 1, "1affffffff"),
    (2**32, "1b0000000100000000"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
]


@pytest.mark.parametrize(("value", "octets"), UINTS)
def test_uint(value: int, octets: str) -> None:
    assert cbor.encode_uint(value).hex() == octets
    cursor = cbor.Cursor(bytes.fromhex(octets))
    assert cursor.uint("number") == value
    cursor.end("the number")


# RFC 8949 Appendix A, deterministic encodings
WELL_FORMED = [
    ["20", "3863", "f4", "f5", "f6", "f7", "f0", "f8ff", "f90000", "fb3ff199999999999a"],
    ["40", "4401020304", "60", "6161", "64f0908591", "80", "83010203", "8301820203820405"],
    ["a0", "a201020304", "a26161016162820203", "c074323031332d30332d32315432303a30343a30305a", "d818456449455446"],
]
INDEFINITE = [
    "5f42010243030405ff",
    "7f657374726561646d696e67ff",
    "9fff",
    "9f018202039f0405ffff",
    "bf61610161629f0203ffff",
]
MALFORMED = {
    "1c": "begins no CBOR item",
    "ff": "indefinite",
    "1f": "begins no CBOR item",
    "f818": "simple value",
    "62c328": "not UTF-8",
    "1817": "shortest",
    "190017": "shortest",
    "5800": "shortest",
    "a201000100": "doubled or not in order",
    "a202000100": "doubled or not in order",
    "81" * 17 + "00": "deep",
    "c1" * 17 + "00": "deep",
}


@pytest.mark.parametrize("octets", [item for row in WELL_FORMED for item in row])
def test_a_deterministic_item_is_passed_over(octets: str) -> None:
    data = bytes.fromhex(octets)
    assert cbor.scan_item(data + b"\x00", 0) == len(data)
    for end in range(len(data)):
        with pytest.raises(cbor.TruncatedError):
            cbor.scan_item(data[:end], 0)


@pytest.mark.parametrize("octets", INDEFINITE)
def test_indefinite_lengths_only_where_allowed(octets: str) -> None:
    data = bytes.fromhex(octets)
    assert cbor.scan_item(data, 0, definite=False) == len(data)
    with pytest.raises(MalformedError, match="indefinite"):
        cbor.scan_item(data, 0)


@pytest.mark.parametrize(("octets", "why"), MALFORMED.items())
def test_what_is_not_deterministic_is_refused(octets: str, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        cbor.scan_item(bytes.fromhex(octets), 0)


@pytest.mark.parametrize("octets", ["5f01ff", "5f5f4100ffff", "7f4100ff", "bf01ff", "9f" * 20])
def test_broken_indefinite_items(octets: str) -> None:
    with pytest.raises(MalformedError):
        cbor.scan_item(bytes.fromhex(octets), 0, definite=False)


@pytest.mark.parametrize("first", [0x5B, 0x7B, 0x9B, 0xBB])
def test_a_huge_length_costs_nothing(first: int) -> None:
    with pytest.raises(cbor.TruncatedError):
        cbor.scan_item(bytes([first]) + b"\x7f" + b"\xff" * 7, 0)


VALUES = st.recursive(
    st.integers(-(2**64), 2**64 - 1) | st.text() | st.binary() | st.booleans() | st.none() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 23), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_the_end_is_where_cbor2_ends(value: object) -> None:
    data = cbor2.dumps(value, canonical=True)
    assert cbor.scan_item(data + b"\xff", 0) == len(data)


@given(st.binary(max_size=64), st.booleans(), st.booleans())
def test_any_octets_are_an_item_or_malformed(data: bytes, shortest: bool, definite: bool) -> None:
    try:
        end = cbor.scan_item(data, 0, shortest=shortest, definite=definite)
    except MalformedError:
        return
    assert 0 < end <= len(data)


def test_cursor_reads_in_order() -> None:
    cursor = cbor.Cursor(bytes.fromhex("84 05 f5 420102 8101"))
    assert cursor.array("all") == 4
    assert cursor.uint("number") == 5
    assert cursor.boolean("flag")
    assert cursor.octets("text", cursor.string_head("text")) == b"\x01\x02"
    assert cursor.item() == b"\x81\x01"
    cursor.leave("all", 4, 4)
    cursor.end("all")


@pytest.mark.parametrize(
    ("octets", "verb"),
    [("20", "uint"), ("f6", "boolean"), ("40", "array"), ("9f", "array"), ("60", "string_head"), ("5f", "string_head")],
)
def test_cursor_names_what_is_not_there(octets: str, verb: str) -> None:
    cursor = cbor.Cursor(bytes.fromhex(octets))
    with pytest.raises(MalformedError, match="the thing"):
        getattr(cursor, verb)("the thing")


def test_cursor_leaves_only_at_the_end() -> None:
    with pytest.raises(MalformedError, match="does not have 2 items"):
        cbor.Cursor(b"").leave("pair", 3, 2)
    with pytest.raises(cbor.TruncatedError):
        cbor.Cursor(b"", definite=False).leave("pair", cbor.INDEFINITE, 2)
    with pytest.raises(MalformedError, match="2 octets too many"):
        cbor.Cursor(b"\x00\x00").end("it")
