"""The fuzzing kit finds what it is for: planted defects of each kind."""

from __future__ import annotations

from random import Random

import pytest
from fuzz.harness import FindingError, Target, checked, fuzz, inputs
from fuzz.mutate import mutated
from fuzz.repair import repaired

from fuzz import corpus
from tumpline.errors import MalformedError
from tumpline.wire.bundle7 import decode_bundle_untrusted

EXAMPLES = 2_000


def length_prefixed(data: bytes) -> bytes:
    """A decoder as it should be."""
    if not data or data[0] != len(data) - 1:
        raise MalformedError("the length is wrong")
    return data[1:]


def leaks_an_index_error(data: bytes) -> bool:
    return data[data[0]] == data[-1] or bool(length_prefixed(data))


def believes_a_length(data: bytes) -> bool:
    return bool(bytearray(int.from_bytes(data[:3], "big"))) or True


def is_careful(data: bytes) -> bool:
    return bool(length_prefixed(data))


def target(run: object) -> Target:
    assert callable(run)
    return Target("planted", "", lambda: [b"\x05abcde", b"\x00\x00\x10abcde"], run, peak_base=8 << 10, peak_factor=8)


def test_a_decoder_that_leaks_an_index_error_is_found() -> None:
    with pytest.raises(FindingError, match="IndexError") as found:
        fuzz(target(leaks_an_index_error), examples=EXAMPLES)
    assert isinstance(found.value.__cause__, IndexError)
    with pytest.raises(IndexError):
        leaks_an_index_error(found.value.data)


def test_a_decoder_that_believes_a_length_is_found() -> None:
    with pytest.raises(FindingError, match="octets of memory"):
        fuzz(target(believes_a_length), examples=EXAMPLES)


def test_a_broken_promise_is_found() -> None:
    def run(data: bytes) -> bool:
        assert length_prefixed(data) != b"abcde", "the promise"
        return True

    with pytest.raises(FindingError, match="the promise"):
        fuzz(target(run), examples=EXAMPLES)


def test_a_careful_decoder_passes() -> None:
    figures = fuzz(target(is_careful), examples=EXAMPLES)
    assert figures.examples == EXAMPLES
    assert 0 < figures.accepted < EXAMPLES
    assert checked(target(is_careful), b"\x01a")
    assert not checked(target(is_careful), b"\x02a")


def test_the_same_seed_gives_the_same_inputs() -> None:
    def first(seed: int) -> list[bytes]:
        source = inputs(target(is_careful), Random(seed))
        return [next(source) for _ in range(200)]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_repair_makes_the_crcs_of_a_changed_bundle_right() -> None:
    for data in corpus.bundles():
        assert repaired(data) == data
    original = corpus.arrivals()[0]
    changed = original.replace(b"payload", b"PAYLOAD")
    with pytest.raises(MalformedError):
        decode_bundle_untrusted(changed)
    assert decode_bundle_untrusted(repaired(changed)).payload == b"PAYLOAD"


def test_repair_takes_anything() -> None:
    chance = Random(3)
    for _ in range(EXAMPLES):
        data = mutated(chance, corpus.arrivals())
        assert len(repaired(data)) == len(data)
