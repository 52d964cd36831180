"""Seals: what was altered, repeated or meant for somebody else is refused, and changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.overlay.replay import WINDOW, ReplayWindow
from tumpline.machines.overlay.sealing import BrokenSealError, PairKeys, ReplayError, Sealed, Secrets, hkdf
from tumpline.wire.overlay import (
    Hello,
    Kind,
    SignedHello,
    decode_hello_untrusted,
    decode_sealed_head_untrusted,
    encode_signed_hello,
)

GIVEN = bytes(range(32))
ABOUT = b"packet.b.a"


def secrets_of(name: str, instance: int = 1, given: bytes | None = None) -> tuple[Secrets, Hello]:
    config = MemberConfig(name, bytes([instance] * 8), name.encode().ljust(32), given_key=given)
    secrets = Secrets(config)
    hello = Hello(name, config.instance, 1, secrets.mode, secrets.key, agreement_key=secrets.agreement_public)
    return secrets, hello


def pair(given: bytes | None) -> tuple[PairKeys, PairKeys]:
    (a, hello_a), (b, hello_b) = secrets_of("a", 1, given), secrets_of("b", 2, given)
    return a.keys_with(hello_b), b.keys_with(hello_a)


def opened(keys: PairKeys, sealed: bytes | Sealed, about: bytes = ABOUT) -> bytes:
    body = sealed if isinstance(sealed, bytes) else b"".join(sealed)
    return bytes(keys.opener.open(decode_sealed_head_untrusted(body), body, about))


def test_hkdf_is_that_of_rfc_5869() -> None:
    # RFC 5869 §A.1, §A.3: the first block of the output.
    first = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert first.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    third = hkdf(b"\x0b" * 22, b"", b"")
    assert third.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


@pytest.mark.parametrize("given_key", [GIVEN, None], ids=["given", "identities"])
def test_what_one_seals_the_other_opens_both_ways(given_key: bytes | None) -> None:
    a, b = pair(given_key)
    assert opened(b, a.sealer.seal(Kind.IP, b"there", ABOUT)) == b"there"
    assert opened(a, b.sealer.seal(Kind.IP, b"back", ABOUT)) == b"back"
    with pytest.raises(BrokenSealError):
        opened(a, a.sealer.seal(Kind.IP, b"to oneself", ABOUT))


PAIRS = {True: pair(GIVEN), False: pair(None)}


@given(st.booleans(), st.binary(max_size=100), st.data())
def test_an_altered_message_is_refused_and_the_true_one_still_taken(
    is_given: bool, octets: bytes, data: st.DataObject
) -> None:
    a, b = PAIRS[is_given]
    body = b"".join(a.sealer.seal(Kind.IP, octets, ABOUT))
    altered = bytearray(body)
    at = data.draw(st.integers(0, len(body) - 1))
    altered[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(MalformedError):
        opened(b, bytes(altered))
    with pytest.raises(BrokenSealError):
        opened(b, body, b"packet.b.c")
    with pytest.raises(MalformedError):
        opened(b, body[:-1])
    assert opened(b, body) == octets
    with pytest.raises(ReplayError):
        opened(b, body)


def test_whoever_starts_anew_is_not_told_what_was_told_before() -> None:
    (a, hello_a), (_, hello_b) = secrets_of("a", 1, GIVEN), secrets_of("b", 2, GIVEN)
    body = a.keys_with(hello_b).sealer.seal(Kind.IP, b"once", ABOUT)
    again = secrets_of("b", 3, GIVEN)[0].keys_with(hello_a)
    with pytest.raises(BrokenSealError):
        opened(again, body)


def test_no_counter_comes_twice_though_keys_are_made_again() -> None:
    (a, _), (_, hello_b), (_, hello_c) = (secrets_of(name, at, GIVEN) for at, name in enumerate("abc"))
    flood = a.flood_sealer()
    assert flood is not None
    sealers = [a.keys_with(hello_b).sealer, a.keys_with(hello_b).sealer, a.keys_with(hello_c).sealer, flood]
    counters = [decode_sealed_head_untrusted(b"".join(one.seal(Kind.IP, b"", b""))).counter for one in sealers * 3]
    assert sorted(set(counters)) == sorted(counters)


def test_what_goes_to_all_is_opened_by_all_who_have_the_key() -> None:
    (a, hello_a), (b, _), (stranger, _) = (
        secrets_of("a", 1, GIVEN),
        secrets_of("b", 2, GIVEN),
        secrets_of("c", 3, bytes(32)),
    )
    flood = a.flood_sealer()
    assert flood is not None
    body = b"".join(flood.seal(Kind.IP, b"all", b"flood.a"))
    for secrets, is_ours in ((b, True), (stranger, False)):
        opener = secrets.keys_with(hello_a).flood_opener
        assert opener is not None
        if is_ours:
            assert bytes(opener.open(decode_sealed_head_untrusted(body), body, b"flood.a")) == b"all"
        else:
            with pytest.raises(BrokenSealError):
                opener.open(decode_sealed_head_untrusted(body), body, b"flood.a")


def test_a_key_that_agrees_on_nothing_is_refused() -> None:
    a, _ = secrets_of("a")
    _, hello = secrets_of("b")
    with pytest.raises(MalformedError, match="agrees on nothing"):
        a.keys_with(hello._replace(agreement_key=bytes(32)))


@pytest.mark.parametrize("given_key", [GIVEN, None], ids=["given", "identities"])
def test_an_announcement_is_proven_by_whom_it_names(given_key: bytes | None) -> None:
    (a, hello), (b, _) = secrets_of("a", 1, given_key), secrets_of("b", 2, given_key)
    said = decode_hello_untrusted(encode_signed_hello(hello.encode(), a.prove(hello.encode())))
    assert b.is_proven(said)
    other = hello._replace(sequence=9).encode()
    assert not b.is_proven(SignedHello(hello, other, said.proof))
    assert not b.is_proven(said._replace(proof=said.proof[:-1]))
    stranger, claimed = secrets_of("x", 3, None if given_key is None else bytes(32))
    forged = hello.encode()
    assert not b.is_proven(SignedHello(hello, forged, stranger.prove(forged)))
    del claimed


@given(st.lists(st.integers(0, 3 * WINDOW), max_size=60))
def test_each_counter_is_taken_once_and_no_old_one(counters: list[int]) -> None:
    window, taken = ReplayWindow(), set[int]()
    for counter in counters:
        highest = max(taken, default=-1)
        may = counter not in taken and counter > highest - WINDOW
        assert window.may_take(counter) is may
        if may:
            window.take(counter)
            taken.add(counter)


@given(st.permutations(range(40)))
def test_within_the_window_any_order_is_taken(order: list[int]) -> None:
    window = ReplayWindow()
    for counter in order:
        assert window.may_take(counter)
        window.take(counter)
    assert not any(window.may_take(counter) for counter in range(40))
