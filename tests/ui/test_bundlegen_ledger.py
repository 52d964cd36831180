"""The books of bundlegen: what came is equal, altered, or nobody's; what did not come is lost."""

from __future__ import annotations

import pytest

from tumpline.ui.bundlegen.ledger import NAMED_MOST, Altered, Ledger

SENT = [b"one" * 20, b"two" * 20, b"three" * 20]


@pytest.fixture
def ledger() -> Ledger:
    books = Ledger()
    for number, data in enumerate(SENT):
        assert books.send(data) == number
    return books


def test_all_came_in_any_order(ledger: Ledger) -> None:
    for data in reversed(SENT):
        assert not ledger.is_clean
        ledger.receive(data)
    assert ledger.is_clean
    assert (ledger.equal, ledger.pending_count, ledger.pending_octets, ledger.lost) == (3, 0, 0, [])


def test_what_did_not_come_is_named(ledger: Ledger) -> None:
    ledger.receive(SENT[1])
    assert (ledger.lost, ledger.pending_count, ledger.pending_octets) == ([0, 2], 2, 160)
    assert not ledger.is_clean


@pytest.mark.parametrize("at", [0, 1, 59])
def test_one_altered_octet_names_its_bundle_and_its_place(ledger: Ledger, at: int) -> None:
    data = bytearray(SENT[1])
    data[at] ^= 1
    ledger.receive(bytes(data))
    assert ledger.altered == [Altered(1, at, 60, 60)]
    assert (ledger.equal, ledger.lost) == (0, [0, 2])
    assert str(ledger.altered[0]) == f"bundle 1 came altered from octet {at} on"


def test_a_bundle_cut_short_or_lengthened_is_altered(ledger: Ledger) -> None:
    ledger.receive(SENT[0][:40])
    ledger.receive(SENT[1] + b"!")
    assert ledger.altered == [Altered(0, 40, 60, 40), Altered(1, 60, 60, 61)]
    assert "60 octets became 40" in str(ledger.altered[0])


def test_of_several_that_begin_alike_the_likest_is_meant() -> None:
    ledger = Ledger()
    for data in (b"x" * 100, b"x" * 90 + b"yy", b"x" * 50):
        ledger.send(data)
    ledger.receive(b"x" * 90 + b"yz" + b"!")
    assert [each.number for each in ledger.altered] == [1]


def test_what_nobody_sent_is_too_much(ledger: Ledger) -> None:
    for data in SENT:
        ledger.receive(data)
    ledger.receive(SENT[0])  # a second time
    ledger.receive(b"")
    assert (ledger.surplus_count, ledger.altered_count) == (2, 0)
    assert "came twice" in str(ledger.surplus[0])
    assert not ledger.is_clean


def test_bundles_that_are_alike_are_counted_one_by_one() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.send(b"")
    ledger.receive(b"")
    assert (ledger.lost, ledger.is_clean) == ([1, 2], False)
    ledger.receive(b"")
    ledger.receive(b"")
    assert ledger.is_clean


def test_of_many_faults_the_first_few_are_kept() -> None:
    ledger = Ledger()
    for number in range(100):
        ledger.send(b"%03d" % number * 20)
        ledger.receive(b"%03d" % number * 20 + b"!")
        ledger.receive(b"?" * (number + 1))
    assert (ledger.altered_count, ledger.surplus_count) == (100, 100)
    assert (len(ledger.altered), len(ledger.surplus)) == (NAMED_MOST, NAMED_MOST)
