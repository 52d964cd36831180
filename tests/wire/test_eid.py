"""Endpoint identifiers: text <-> CBOR, what is refused, what is equal (RFC 9171 §4.2.5, RFC 9758)."""

import pickle

import pytest
from hypothesis import given

from tumpline.errors import MalformedError
from tumpline.testing.strategies import eids
from tumpline.wire import eid as eid_module
from tumpline.wire.eid import DTN, IPN, MAX_EID_OCTETS, NULL, Eid, decode_eid_untrusted

# text, CBOR, node ID, demux
TABLE = [
    ("ipn:1.1", "8202820101", "ipn:1.0", "1"),
    ("ipn:977000.100.1", "8202831a000ee868186401", "ipn:977000.100.0", "1"),
    ("ipn:0.0", "8202820000", "ipn:0.0", ""),
    ("ipn:!.7", "8202821affffffff07", "ipn:!.0", "7"),
    ("ipn:5.0", "8202820500", "ipn:5.0", ""),
    ("ipn:1.18446744073709551615", "820282011bffffffffffffffff", "ipn:1.0", "18446744073709551615"),
    ("dtn:none", "820100", "dtn:none", ""),
    ("dtn://n/", "8201642f2f6e2f", "dtn://n/", ""),
    ("dtn://n/x", "8201652f2f6e2f78", "dtn://n/", "x"),
    ("dtn://n/~all", "8201682f2f6e2f7e616c6c", "dtn://n/", "~all"),
    ("dtn://n/a/b?c#d", "82016b2f2f6e2f612f623f632364", "dtn://n/", "a/b?c#d"),
    ("cbor:8218631863", "8218631863", "cbor:8218631863", ""),
]


@pytest.mark.parametrize(("text", "octets", "node", "demux"), TABLE)
def test_text_and_octets(text: str, octets: str, node: str, demux: str) -> None:
    eid = Eid.parse(text)
    assert str(eid) == text
    assert eid.encoded == eid.canonical == bytes.fromhex(octets)
    assert decode_eid_untrusted(b"\xaa" + bytes.fromhex(octets) + b"\xbb", 1) == (eid, 1 + len(octets) // 2)
    assert eid.demux == demux
    if eid.scheme in (DTN, IPN):
        assert str(eid.node) == node


# received CBOR, text, preferred encoding
OTHER_ENCODINGS = [
    ("820283000101", "ipn:1.1", "8202820101"),
    ("8202821b000ee8680000006401", "ipn:977000.100.1", "8202831a000ee868186401"),
    ("820283000000", "ipn:0.0", "8202820000"),
]


@pytest.mark.parametrize(("octets", "text", "preferred"), OTHER_ENCODINGS)
def test_both_ipn_encodings_are_equal_and_kept(octets: str, text: str, preferred: str) -> None:
    eid, _ = decode_eid_untrusted(bytes.fromhex(octets))
    assert eid == Eid.parse(text)
    assert hash(eid) == hash(Eid.parse(text))
    assert str(eid) == text
    assert eid.encoded == bytes.fromhex(octets)
    assert eid.canonical == bytes.fromhex(preferred)


def test_two_elements_for_peers_that_know_no_allocator() -> None:
    assert Eid.parse("ipn:977000.100.1").two_element().encoded.hex() == "8202821b000ee8680000006401"
    assert NULL.two_element() is NULL


# other ways to write it, canonical text
SYNONYMS = [("ipn:0.1.1", "ipn:1.1"), ("ipn:4294967295.7", "ipn:!.7"), ("IPN:1.1", "ipn:1.1"), ("DTN:none", "dtn:none")]


@pytest.mark.parametrize(("text", "canonical"), SYNONYMS)
def test_synonyms(text: str, canonical: str) -> None:
    assert Eid.parse(text) == Eid.parse(canonical)
    assert str(Eid.parse(text)) == canonical


WRONG_TEXT = [
    ("", "write dtn://node/service"),
    ("rover", "write dtn://node/service"),
    ("http://x/", "no scheme"),
    ("dtn:", "not of the form"),
    ("dtn://rover", "write dtn://rover/"),
    ("dtn:///x", "not of the form"),
    ("dtn:rover/x", "not of the form"),
    ("dtn://rover/a b", "not of the form"),
    ("dtn://ro%2/x", "not of the form"),
    ("dtn://rover/ü", "no endpoint ID"),
    ("dtn://rover/\n", "not of the form"),
    ("dtn://n/" + "x" * (MAX_EID_OCTETS - 8), "not of the form"),
    ("dtn://n/" + "x" * 3000, "no endpoint ID"),
    ("ipn:1", "not of the form"),
    ("ipn:1.2.3.4", "not of the form"),
    ("ipn:01.2", "leading zeros"),
    ("ipn:1.02", "leading zeros"),
    ("ipn:1.", "leading zeros"),
    ("ipn:-1.2", "leading zeros"),
    ("ipn:1.٣", "no endpoint ID"),
    ("ipn:4294967296.0", "below 2\\^32"),
    ("ipn:4294967296.1.0", "below 2\\^32"),
    ("ipn:1.18446744073709551616", "below 2\\^64"),
    ("ipn:4196183048192100.0", "below 2\\^32"),
    ("ipn:!.!", "leading zeros"),
    ("ipn:!.1.2", "not of the form"),
    ("ipn:0.!.2", "not of the form"),
    ("cbor:zz", "hexadecimal"),
    ("cbor:82186318", "end"),
    ("cbor:82186318630000", "goes on"),
]


@pytest.mark.parametrize(("text", "why"), WRONG_TEXT)
def test_wrong_text_is_refused_with_a_hint(text: str, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        Eid.parse(text)


WRONG_OCTETS = [
    "",
    "82",
    "01",
    "8101",
    "83010000",
    "8220646e6f6e65",
    "820101",  # dtn SSP 1
    "820120",
    "8201646e6f6e65",  # "none" as text
    "820140",
    "8201642f2f6e78",  # no slash behind the node
    "8201652f2f6e2f20",
    "8201662f2f6e2fc3a4",
    "8201652f2f6e2fff",  # not UTF-8
    "82028101",
    "82028401020304",
    "820283" + "1b0000000100000000" + "0101",  # allocator 2^32
    "820283" + "01" + "1b0000000100000000" + "01",
    "8202820161",
    "82028220 01",
    "820282180101",  # 1 not in its shortest form
    "82029f0101ff",  # indefinite
    "9f0100ff",
    "82017b7fffffffffffffff",
    "82029b7fffffffffffffff",
    "821863" + "81" * 30 + "00",
    "821863" + "5a00100000" + "00" * 1000,
    "8201790401" + "2f" * 1025,
]


@pytest.mark.parametrize("octets", WRONG_OCTETS)
def test_wrong_octets_are_malformed(octets: str) -> None:
    with pytest.raises(MalformedError):
        decode_eid_untrusted(bytes.fromhex(octets))


LAX = [
    ("820282180118 02", "ipn:1.2"),
    ("9f029f0102ffff", "ipn:1.2"),
    ("9f0100ff", "dtn:none"),
    ("9f18639f00ffff", "cbor:8218639f00ff"),
]


@pytest.mark.parametrize(("octets", "text"), LAX)
def test_unusual_encodings_where_they_are_allowed(octets: str, text: str) -> None:
    data = bytes.fromhex(octets)
    eid, end = decode_eid_untrusted(data, shortest=False, definite=False)
    assert (str(eid), end, eid.encoded) == (text, len(data), data)
    with pytest.raises(MalformedError):
        decode_eid_untrusted(data)


@pytest.mark.parametrize(
    ("text", "null", "singleton", "administrative", "local"),
    [
        ("dtn:none", True, False, False, False),
        ("ipn:0.0", True, False, False, False),
        ("ipn:0.5", True, False, False, False),
        ("dtn://n/", False, True, True, False),
        ("dtn://n/x", False, True, False, False),
        ("dtn://n/~x", False, False, False, False),
        ("ipn:1.0", False, True, True, False),
        ("ipn:1.1", False, True, False, False),
        ("ipn:1.0.0", False, True, True, False),
        ("ipn:!.0", False, True, True, True),
        ("cbor:821863187b", False, True, False, False),
    ],
)
def test_kinds(text: str, null: bool, singleton: bool, administrative: bool, local: bool) -> None:
    eid = Eid.parse(text)
    assert (eid.is_null, eid.is_singleton, eid.is_administrative, eid.is_local) == (
        null,
        singleton,
        administrative,
        local,
    )


def test_the_null_endpoints_are_not_equal() -> None:
    assert Eid.parse("ipn:0.0") != NULL
    assert NULL.node is NULL


def test_demux() -> None:
    assert str(Eid.parse("dtn://n/a").with_demux("b/c")) == "dtn://n/b/c"
    assert str(Eid.parse("ipn:977000.5.1").with_demux("9")) == "ipn:977000.5.9"
    assert str(Eid.parse("ipn:5.1").with_demux("")) == "ipn:5.0"
    for text, demux in [
        ("dtn:none", "a"),
        ("ipn:0.0", "1"),
        ("ipn:1.0", "echo"),
        ("dtn://n/", "a b"),
        ("cbor:82186300", "x"),
    ]:
        with pytest.raises(MalformedError):
            Eid.parse(text).with_demux(demux)


@pytest.mark.parametrize(
    "text", ["dtn://n/" + "x" * (MAX_EID_OCTETS - 9), "cbor:8218635903fa" + "00" * 1018], ids=["dtn", "opaque"]
)
def test_the_longest_eid_goes_round(text: str) -> None:
    eid = Eid.parse(text)
    assert decode_eid_untrusted(eid.encoded) == (eid, MAX_EID_OCTETS)
    assert Eid.parse(str(eid)) == eid


def test_an_eid_does_not_change() -> None:
    with pytest.raises(AttributeError):
        NULL.scheme = 3


@given(eids())
def test_round_trip(eid: Eid) -> None:
    assert decode_eid_untrusted(eid.encoded) == (eid, len(eid.encoded))
    assert Eid.parse(str(eid)) == eid
    copy = pickle.loads(pickle.dumps(eid))
    assert (copy, copy.encoded) == (eid, eid.encoded)


def test_the_cache_is_bounded() -> None:
    for number in range(3 * eid_module._MAX_CACHED // 2):
        decode_eid_untrusted(Eid(IPN, (0, 5, number)).encoded)
    assert len(eid_module.CACHE) <= eid_module._MAX_CACHED
