"""Whose an address is."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.overlay.addresses import LEARNED_MOST, LEARNED_S, AddressBook
from tumpline.testing.overlay_exchange import claim


def address(text: str) -> bytes:
    return ip_address(text).packed


def test_the_longest_prefix_wins_and_a_default_route_is_the_last_resort() -> None:
    book = AddressBook()
    book.claim("gateway", (claim("::/0"), claim("0.0.0.0/0")), 2)
    book.claim("site", (claim("cc::/64"),), 2)
    book.claim("host", (claim("cc::1/64"),), 2)
    book.learn("old", address("2001:db8::7"), 0.0)
    owners = [book.owner(address(text)) for text in ("cc::1", "cc::2", "dd::1", "2001:db8::7", "192.0.2.1")]
    assert owners == ["host", "site", "gateway", "old", "gateway"]


def test_who_is_trusted_more_goes_first_then_who_claimed_first() -> None:
    book, claims = AddressBook(), (claim("bb::1/64"),)
    book.claim("older", claims, 0)
    book.claim("first", claims, 1)
    book.claim("second", claims, 1)
    assert book.owner(address("bb::1")) == "first"
    book.claim("proven", claims, 2)
    assert book.owner(address("bb::1")) == "proven"
    book.claim("first", (*claims, claim("bb::2/64")), 1)
    book.forget("proven")
    assert book.owner(address("bb::1")) == "first", "it has claimed it all the time"
    book.forget("first")
    assert (book.owner(address("bb::1")), book.owner(address("bb::2"))) == ("second", None)


def test_what_is_claimed_is_not_learned_from_packets() -> None:
    book = AddressBook()
    book.claim("a", (claim("bb::1/64"), claim("cc::/64"), claim("::/0")), 1)
    assert [book.is_claimed(address(text)) for text in ("bb::1", "cc::9", "dd::9")] == [True, True, False]


def test_what_was_learned_is_forgotten_when_nothing_comes_from_it() -> None:
    book = AddressBook()
    assert book.learn("a", address("bb::1"), 0.0)
    assert book.learn("b", address("bb::2"), 10.0)
    assert not book.learn("a", address("bb::1"), 100.0)
    assert book.next_timeout() == 10.0 + LEARNED_S
    assert book.handle_timeout(10.0 + LEARNED_S)
    assert (book.owner(address("bb::1")), book.owner(address("bb::2"))) == ("a", None)
    assert book.learn("c", address("bb::1"), 400.0), "it has moved"
    assert book.owner(address("bb::1")) == "c"
    book.forget("c")
    assert (book.owner(address("bb::1")), book.next_timeout()) == (None, None)


def test_strangers_fill_no_memory() -> None:
    book = AddressBook()
    for number in range(LEARNED_MOST + 10):
        book.learn("a", number.to_bytes(16, "big"), float(number))
    assert book.owner((9).to_bytes(16, "big")) is None
    assert book.owner((10).to_bytes(16, "big")) == "a"


SMALL = st.integers(0, 3).map(lambda low: bytes(15) + bytes([low]))
CLAIMS = st.lists(st.tuples(SMALL, st.integers(124, 128)), max_size=4)
STEPS = st.lists(st.tuples(st.sampled_from("abc"), CLAIMS, st.integers(0, 2)), max_size=12)


@given(STEPS)
def test_whatever_was_claimed_and_given_up_only_what_is_claimed_now_counts(
    steps: list[tuple[str, list[tuple[bytes, int]], int]],
) -> None:
    from tumpline.wire.overlay import Claim

    book, now = AddressBook(), dict[str, tuple[tuple[Claim, ...], int]]()
    for name, claims, trust in steps:
        now[name] = (tuple(Claim(*each) for each in claims), trust)
        book.claim(name, *now[name])
    for low in range(4):
        wanted = bytes(15) + bytes([low])
        found = [
            (each.network_bits, trust, name)
            for name, (claims_now, trust) in now.items()
            for each in claims_now
            if low >> (128 - each.network_bits) == each.address[15] >> (128 - each.network_bits)
        ]
        best: set[str | None] = {name for bits, trust, name in found if (bits, trust) == max(found)[:2]}
        assert book.owner(wanted) in (best or {None})
    for name in now:
        book.forget(name)
    assert [book.owner(bytes(16)), book._claims, book._of, book._bits] == [None, {}, {}, {4: [], 16: []}]
