"""EID patterns of all kinds go round, and what anyone alters is a pattern or malformed."""

from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.testing.strategies import eid_patterns, eids
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern, decode_eid_pattern_untrusted


@given(eid_patterns())
def test_round_trip(pattern: EidPattern) -> None:
    assert EidPattern.parse(str(pattern)) == pattern
    assert decode_eid_pattern_untrusted(pattern.encoded) == pattern
    assert decode_eid_pattern_untrusted(pattern.encoded).encoded == pattern.encoded


@given(eid_patterns(), eids())
def test_every_form_matches_the_same(pattern: EidPattern, eid: Eid) -> None:
    found = pattern.matches(eid)
    assert found == EidPattern.parse(str(pattern)).matches(eid)
    assert found == any(EidPattern((item,)).matches(eid) for item in pattern.items)


@given(st.sets(st.integers(0, 40), min_size=1), st.integers(0, 50))
def test_intervals_hold_what_they_were_made_of(numbers: set[int], number: int) -> None:
    pattern = EidPattern.parse(f"ipn:0.[{','.join(map(str, numbers))}].*")
    assert pattern.matches(Eid.parse(f"ipn:{number}.1")) == (number in numbers)


@given(eid_patterns(), st.integers(0), st.integers(0, 255))
def test_altered_octets_are_a_pattern_or_malformed(pattern: EidPattern, at: int, octet: int) -> None:
    data = bytearray(pattern.encoded)
    data[at % len(data)] = octet
    for octets in (bytes(data), bytes(data[: at % len(data)])):
        try:
            decode_eid_pattern_untrusted(octets)
        except MalformedError:
            continue


@given(st.text(max_size=40) | st.text("ipndt:/*.[]|-+!,0123456789", max_size=40))
def test_any_text_is_a_pattern_or_malformed(text: str) -> None:
    try:
        pattern = EidPattern.parse(text)
    except MalformedError:
        return
    assert EidPattern.parse(str(pattern)) == pattern
