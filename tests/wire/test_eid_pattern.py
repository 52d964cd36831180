"""EID patterns: text <-> CBOR, normal form, what matches (draft-ietf-dtn-eid-pattern-08 and our dtn paths)."""

import pytest

from tumpline.errors import MalformedError
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern, decode_eid_pattern_untrusted

# text in normal form, CBOR: the draft's examples, then our own
TABLE = [
    ("", "80"),
    ("*:**", "f5"),
    ("ipn:0.3.4", "8182028300 03 04"),
    ("ipn:0.3.*", "8182028300 03 f5"),
    ("ipn:0.3.[10-19]", "8182028300 03 820a09"),
    ("ipn:0.3.[0-4,10-19]", "8182028300 03 8400040409"),
    ("ipn:977000.[100+].*", "818202831a000ee868 811864 f5"),
    ("dtn:**|ipn:0.3.4", "82 82f601 82028300 03 04"),
    ("ipn:**", "8182f602"),
    ("dtn:**|ipn:**", "8183f60102"),
    ("77:**|foo:**", "8183f6184d63666f6f"),
    ("dtn:none", "818201646e6f6e65"),
    ("dtn://rover/**", "8182016a2f2f726f7665722f2a2a"),
    ("dtn://rover/files", "8182016d2f2f726f7665722f66696c6573"),
]


@pytest.mark.parametrize(("text", "octets"), TABLE)
def test_text_and_octets(text: str, octets: str) -> None:
    pattern = EidPattern.parse(text)
    assert pattern.encoded == bytes.fromhex(octets)
    assert str(pattern) == text
    assert decode_eid_pattern_untrusted(bytes.fromhex(octets)) == pattern


NORMAL = [
    ("ipn:0.3.[19-10]", "ipn:0.3.[10-19]"),
    ("ipn:0.3.[10-14,12-19]", "ipn:0.3.[10-19]"),
    ("ipn:0.3.[10-14,15-19]", "ipn:0.3.[10-19]"),
    ("ipn:0.3.[5]", "ipn:0.3.5"),
    ("ipn:0.[0+].1", "ipn:0.*.1"),
    ("ipn:0.[7-99999999999].1", "ipn:0.[7+].1"),
    ("ipn:0.3.[0-18446744073709551615]", "ipn:0.3.*"),
    ("ipn:3.4", "ipn:0.3.4"),
    ("ipn:4196183048192100.0", "ipn:977000.100.0"),
    ("ipn:!.7", "ipn:0.4294967295.7"),
    ("[2,ipn]:**", "ipn:**"),
    ("ipn:**|dtn:**|ipn:**", "dtn:**|ipn:**"),
    ("ipn:0.3.4|dtn://a/|ipn:3.4", "dtn://a/|ipn:0.3.4"),
    ("DTN://a/**", "dtn://a/**"),
]


@pytest.mark.parametrize(("text", "normal"), NORMAL)
def test_normal_form(text: str, normal: str) -> None:
    assert str(EidPattern.parse(text)) == normal
    assert EidPattern.parse(text) == EidPattern.parse(normal)
    assert hash(EidPattern.parse(text)) == hash(EidPattern.parse(normal))


MATCHES = [
    ("*:**", "dtn:none ipn:0.0 dtn://a/~x ipn:977000.1.2 cbor:821863187b", ""),
    ("", "", "dtn:none ipn:0.0 dtn://a/~x"),
    ("dtn:**", "dtn:none dtn://a/ dtn://b/~g", "ipn:1.2"),
    ("99:**", "cbor:821863187b", "dtn:none ipn:1.2"),
    ("dtn://rover/**", "dtn://rover/ dtn://rover/files dtn://rover/~all dtn://rover/a/b", "dtn://rover2/ dtn:none"),
    ("dtn://rover/files/**", "dtn://rover/files/ dtn://rover/files/x", "dtn://rover/files dtn://rover/file"),
    ("dtn://rover/files", "dtn://rover/files", "dtn://rover/files/ dtn://rover/ ipn:1.2"),
    ("ipn:0.3.[10-19]", "ipn:3.10 ipn:0.3.19", "ipn:3.9 ipn:3.20 ipn:4.10 ipn:1.3.10"),
    ("ipn:977000.[100+].*", "ipn:977000.100.0 ipn:977000.4294967295.9", "ipn:977000.99.0 ipn:100.0"),
    ("ipn:*.*.0|dtn://a/", "ipn:5.0 dtn://a/ ipn:!.0", "ipn:5.1 dtn://a/b"),
]


@pytest.mark.parametrize(("text", "inside", "outside"), MATCHES)
def test_matching(text: str, inside: str, outside: str) -> None:
    pattern = EidPattern.parse(text)
    assert [eid for eid in inside.split() if not pattern.matches(Eid.parse(eid))] == []
    assert [eid for eid in outside.split() if pattern.matches(Eid.parse(eid))] == []


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("rover", "write dtn://node"),
        ("dtn:**|*:**", "alone"),
        ("ipn:12.*", "write ipn:0.12.*"),
        ("ipn:1.2.3.4", "three parts"),
        ("ipn:0.4294967296.1", "greater than"),
        ("ipn:0.[4294967296+].1", "at most"),
        ("ipn:0.01.1", "no number"),
        ("ipn:0.[1-].1", "none of"),
        ("ipn:0.[].1", "none of"),
        ("dtn://rover", "write dtn://rover/"),
        ("dtn://**", "no node name"),
        ("dtn://ro ver/**", "form dtn://node/demux"),
        ("foo:bar", "write foo:**"),
        ("dtn://a/|", "write"),
        ("[2,i pn]:**", "URI scheme"),
        ("dtn://ü/**", "ASCII"),
        ("|".join(f"ipn:0.{node}.*" for node in range(300)), "at most 256 items"),
    ],
)
def test_a_wrong_pattern_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(MalformedError, match=hint.replace("*", r"\*").replace(".", r"\.")):
        EidPattern.parse(text)


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "00",
        "8000",  # goes on
        "818200",  # ends early
        "81820383000304",  # scheme 3
        "81820283000380",  # no intervals
        "8182028300031801",  # 1 not in its shortest form
        "8182028200 03",
        "81f6",
        "8181f6",  # all SSPs of no scheme
        "8182f66132",  # a name that is a number
        "8182016c2f2f726f7665722f2a2a7c61",  # '|' inside an item
        "9b7fffffffffffffff",
        "8182028300039bffffffffffffffff",
        "818202831b000000010000000003f5",
    ],
)
def test_wrong_octets_are_malformed(octets: str) -> None:
    with pytest.raises(MalformedError):
        decode_eid_pattern_untrusted(bytes.fromhex(octets))


def test_exact_is_more_specific_than_longer_than_wildcard() -> None:
    ordered = ["", "*:**", "dtn:**", "dtn://rover/**", "dtn://rover/files/**", "dtn://rover/files"]
    found = [EidPattern.parse(text).specificity for text in ordered]
    assert found == sorted(set(found))
    ordered = ["*:**", "ipn:**", "ipn:*.*.*", "ipn:0.*.*", "ipn:0.3.*", "ipn:0.3.[1-9]", "ipn:0.3.4"]
    found = [EidPattern.parse(text).specificity for text in ordered]
    assert found == sorted(set(found))


def test_a_pattern_is_as_specific_as_its_most_general_item() -> None:
    assert EidPattern.parse("dtn://a/b|dtn://c/**").specificity == EidPattern.parse("dtn://c/**").specificity


def test_the_most_intervals_that_are_allowed() -> None:
    text = f"ipn:0.[{','.join(str(3 * number) for number in range(256))}].1"
    pattern = EidPattern.parse(text)
    assert decode_eid_pattern_untrusted(pattern.encoded) == pattern
    assert pattern.matches(Eid.parse("ipn:765.1"))
    assert not pattern.matches(Eid.parse("ipn:766.1"))
