"""Bundles through datagrams and back, over links that lose, double and reorder, in virtual time from seeds."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.impairment import ImpairedLink, Impairment
from tumpline.machines.udpcl.reassembly import Limits, Reassembly
from tumpline.machines.udpcl.segmentation import DATAGRAM_OCTETS_LEAST, Segmenter
from tumpline.wire.udpcl import Kind, Transfer, decode_datagram_untrusted

PEER = ("192.0.2.1", 4556)


def bundle(number: int, octets: int) -> bytes:
    """No bundle, but as long as one, begins like one, and is unlike all others."""
    return b"\x9f" + number.to_bytes(4, "big") + Random(number).randbytes(max(0, octets - 5))


def receive(reassembly: Reassembly, datagram: bytes, now: float) -> list[bytes]:
    decoded = decode_datagram_untrusted(datagram)
    if decoded.kind is Kind.BUNDLE7:
        return [decoded.data]
    transfers = [each.transfer for each in decoded.maps if each.transfer is not None]
    return [whole for each in transfers if (whole := reassembly.receive(PEER, each, now)) is not None]


@given(st.lists(st.integers(5, 5000), max_size=12), st.integers(DATAGRAM_OCTETS_LEAST, 2000), st.randoms())
def test_bundles_of_any_length_come_in_any_order(sizes: list[int], most: int, chance: Random) -> None:
    bundles = [bundle(number, octets) for number, octets in enumerate(sizes)]
    datagrams = Segmenter(2**64 - 3).datagrams(bundles, most)
    assert all(len(datagram) <= most for datagram in datagrams)
    chance.shuffle(datagrams)
    reassembly = Reassembly()
    got = [whole for datagram in datagrams for whole in receive(reassembly, datagram, 0.0)]
    assert sorted(got) == sorted(bundles)
    assert reassembly.is_empty
    assert reassembly.held_octets == 0
    assert reassembly.next_timeout() is None


def test_small_bundles_share_a_datagram_and_a_lone_one_is_bare() -> None:
    assert Segmenter().datagrams([bundle(0, 100)], 1200) == [bundle(0, 100)]
    assert len(Segmenter().datagrams([bundle(number, 100) for number in range(10)], 1200)) == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_bad_link_costs_bundles_but_corrupts_none(seed: int) -> None:
    chance = Random(seed)
    bad = Impairment(delay_s=0.1, jitter_s=0.05, loss=0.05, duplicate=0.1, reorder=0.2)
    link, segmenter = ImpairedLink(bad, chance.random), Segmenter()
    reassembly = Reassembly(Limits(timeout_s=5.0))
    bundles = [bundle(number, chance.randrange(5, 20_000)) for number in range(60)]
    got: list[bytes] = []
    most_held = 0
    for step, each in enumerate(bundles):
        link.receive(segmenter.datagrams([each], 1200), step * 0.1)
        for datagram in link.due(step * 0.1):
            got += receive(reassembly, datagram, step * 0.1)
        most_held = max(most_held, reassembly.held_octets)
    for datagram in link.due(10.0):
        got += receive(reassembly, datagram, 10.0)
    assert set(got) <= set(bundles)
    assert 10 < len(set(got)) < 60
    assert reassembly.counts.late + reassembly.counts.overlapping > 0
    assert 0 < most_held < 1 << 20
    deadline = reassembly.next_timeout()
    while deadline is not None:
        assert deadline <= 15.0
        reassembly.handle_timeout(deadline)
        deadline = reassembly.next_timeout()
    assert reassembly.held_octets == 0
    assert reassembly.counts.timed_out > 0


def test_what_overlaps_is_dropped_and_the_rest_counts() -> None:
    reassembly = Reassembly()
    for offset, data in ((0, b"abc"), (6, b"ghi"), (2, b"XX"), (5, b"XX"), (0, b"abc"), (1, b"X"), (8, b"X")):
        assert reassembly.receive(PEER, Transfer(1, data, 9, offset), 0.0) is None
    assert reassembly.counts.overlapping == 5
    assert reassembly.receive(PEER, Transfer(1, b"def", 9, 3), 0.0) == b"abcdefghi"
    assert reassembly.receive(PEER, Transfer(1, b"def", 9, 3), 59.0) is None
    assert reassembly.counts.late == 1


def test_peers_have_numbers_of_their_own() -> None:
    reassembly = Reassembly()
    assert reassembly.receive(PEER, Transfer(1, b"ab", 4, 0), 0.0) is None
    assert reassembly.receive("other", Transfer(1, b"xy", 4, 2), 0.0) is None
    assert reassembly.receive(PEER, Transfer(1, b"cd", 4, 2), 0.0) == b"abcd"
    reassembly.forget_peer("other")
    assert reassembly.is_empty


def test_segments_that_disagree_end_the_transfer() -> None:
    reassembly = Reassembly()
    assert reassembly.receive(PEER, Transfer(1, b"ab", 4, 0), 0.0) is None
    assert reassembly.receive(PEER, Transfer(1, b"cd", 5, 2), 0.0) is None
    assert reassembly.receive(PEER, Transfer(1, b"cd", 4, 2), 0.0) is None
    assert (reassembly.counts.contradictory, reassembly.counts.late) == (1, 1)
    assert reassembly.held_octets == 0
    # After the timeout the number may mean something else.
    assert reassembly.receive(PEER, Transfer(1, b"new"), 61.0) == b"new"


def test_the_deadline_counts_from_the_last_segment() -> None:
    reassembly = Reassembly(Limits(timeout_s=10.0))
    reassembly.receive(PEER, Transfer(1, b"a", 9, 0), 0.0)
    reassembly.receive(PEER, Transfer(2, b"a", 9, 0), 1.0)
    reassembly.receive(PEER, Transfer(1, b"b", 9, 1), 5.0)
    assert reassembly.next_timeout() == 11.0
    reassembly.handle_timeout(14.9)
    assert (reassembly.counts.timed_out, reassembly.next_timeout()) == (1, 15.0)
    reassembly.handle_timeout(15.0)
    assert reassembly.is_empty


def test_a_stranger_fills_its_share_and_no_more() -> None:
    limits = Limits(octets=100_000, peer_octets=40_000, closed=8)
    reassembly = Reassembly(limits)
    for number in range(1000):
        reassembly.receive("stranger", Transfer(number, b"x", 10_000, number), 0.0)
        for peer in range(5):
            reassembly.receive(peer, Transfer(0, b"x", 10_000, 2 * number), 0.0)
        assert reassembly.held_octets <= limits.octets
    assert reassembly.counts.without_room > 0
    assert reassembly.receive(PEER, Transfer(0, b"x", 40_001, 0), 0.0) is None
    assert reassembly.receive(PEER, Transfer(1, b"whole"), 0.0) == b"whole"
    reassembly.handle_timeout(60.0)
    assert reassembly.held_octets == 0
