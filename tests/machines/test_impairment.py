"""One direction of a link, in virtual time: nothing is invented, nothing is lost silently, and figures are exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from math import inf, sqrt
from random import Random
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import ConfigError
from tumpline.machines.impairment import HELD_OCTETS_MOST, ImpairedLink, Impairment, Jitter

MANY = 20_000
SIGMAS = 4.5  # of a seed that is fixed: it holds or it does not

shares = st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0])
impairments = st.builds(
    Impairment,
    delay_s=st.sampled_from([0.001, 0.02, 1.3]),
    jitter_s=st.sampled_from([0.0, 0.005, 2.0]),
    jitter=st.sampled_from(Jitter),
    loss=shares,
    duplicate=shares,
    reorder=shares,
    rate_bps=st.sampled_from([None, 9600.0, 1e6, 50e6]),
    queue_octets=st.sampled_from([0, 3000, 1_000_000]),
)
# When (after the one before) how many frames come, of which length.
bursts = st.lists(
    st.tuples(st.floats(0, 2), st.integers(1, 20), st.sampled_from([14, 60, 1514])), min_size=1, max_size=10
)


def link_of(impairment: Impairment, seed: int = 1) -> ImpairedLink:
    return ImpairedLink(impairment, Random(seed).random)


def frames(count: int, octets: int = 1514, first: int = 0) -> list[bytes]:
    """All different."""
    return [number.to_bytes(8, "big") + bytes(octets - 8) for number in range(first, first + count)]


def comes(link: ImpairedLink, until: float = inf) -> Iterator[tuple[float, bytes]]:
    """What comes out, each at its time."""
    while (at := link.next_timeout()) is not None and at <= until:
        due = link.due(at)
        assert due, "it said that something is due"
        yield from ((at, frame) for frame in due)


def balance(link: ImpairedLink) -> None:
    counts = link.counts
    assert counts.received + counts.duplicated == counts.carried + counts.lost + counts.dropped + link.held


def live(link: ImpairedLink, story: list[tuple[float, int, int]]) -> tuple[list[bytes], list[tuple[float, bytes]]]:
    """What went in, and what came out when."""
    now, sent, came = 0.0, list[bytes](), list[tuple[float, bytes]]()
    for gap_s, count, octets in story:
        came += comes(link, now + gap_s)
        now += gap_s
        burst = frames(count, octets, len(sent))
        link.receive(burst, now)
        sent += burst
        balance(link)
    came += comes(link)
    balance(link)
    assert link.held == 0
    return sent, came


@given(impairments, bursts, st.integers())
def test_nothing_is_invented_nothing_is_lost_silently(
    impairment: Impairment, story: list[tuple[float, int, int]], seed: int
) -> None:
    link = link_of(impairment, seed)
    sent, came = live(link, story)
    most = 2 if impairment.duplicate else 1
    assert Counter(frame for _, frame in came) <= Counter(sent * most)
    assert link.counts.carried == len(came)
    assert link.counts.carried_octets == sum(len(frame) for _, frame in came)
    assert [at for at, _ in came] == sorted(at for at, _ in came)


@given(impairments, bursts, st.integers())
def test_order_is_kept_unless_reordering_is_asked_for(
    impairment: Impairment, story: list[tuple[float, int, int]], seed: int
) -> None:
    link = link_of(impairment, seed)
    sent, came = live(link, story)
    place = {frame: number for number, frame in enumerate(sent)}
    places = [place[frame] for _, frame in came]
    if impairment.reorder == 0.0:
        assert places == sorted(places)
        assert link.counts.overtook == 0


@given(st.sampled_from([0.0, 0.02, 0.1, 1.3, 480.0]), bursts)
def test_a_delay_is_exact(delay_s: float, story: list[tuple[float, int, int]]) -> None:
    link = link_of(Impairment(delay_s=delay_s))
    expected, now = [], 0.0
    for gap_s, count, _ in story:
        now += gap_s
        expected += [now + delay_s] * count
    _, came = live(link, story)
    assert [at for at, _ in came] == expected


@given(st.sampled_from([9600.0, 1e6, 50e6]), bursts)
def test_a_rate_is_exact_within_one_frame(rate_bps: float, story: list[tuple[float, int, int]]) -> None:
    """Never more than the rate in any stretch of time, never less while something waits."""
    _, came = live(link_of(Impairment(delay_s=0.1, rate_bps=rate_bps, queue_octets=10**9)), story)
    free_at, now, expected = 0.0, 0.0, []
    for gap_s, count, octets in story:
        now += gap_s
        for _ in range(count):
            free_at = max(free_at, now) + octets * 8 / rate_bps
            expected.append(free_at + 0.1)
    assert [at for at, _ in came] == pytest.approx(expected, rel=1e-12)


def test_the_rate_under_a_flood() -> None:
    link = link_of(Impairment(rate_bps=10e6, queue_octets=100_000))
    came: list[tuple[float, bytes]] = []
    for millisecond in range(1000):  # 121 Mbit/s
        link.receive(frames(10, first=10 * millisecond), millisecond / 1000)
        came += comes(link, (millisecond + 1) / 1000)
    carried_bits = sum(len(frame) for _, frame in came) * 8
    assert abs(carried_bits - 10e6) <= 1514 * 8
    balance(link)
    assert link.counts.dropped > 8000


@pytest.mark.parametrize(("queue_octets", "taken"), [(0, 1), (1514, 1), (3028, 2), (15140, 10)])
def test_a_queue_takes_what_fits_and_drops_the_tail(queue_octets: int, taken: int) -> None:
    link = link_of(Impairment(rate_bps=1e6, queue_octets=queue_octets))
    sent = frames(20)
    link.receive(sent, 0.0)
    assert [frame for _, frame in comes(link)] == sent[:taken]
    assert link.counts.dropped == 20 - taken


def share_of(impairment: Impairment, counter: str) -> float:
    link = link_of(impairment)
    link.receive(frames(MANY, 60), 0.0)
    list(comes(link))
    balance(link)
    count: int = getattr(link.counts, counter)
    return count / MANY


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 1.0])
@pytest.mark.parametrize(
    ("key", "counter"),
    [("loss", "lost"), ("duplicate", "duplicated"), ("corrupt", "corrupted"), ("reorder", "overtook")],
)
def test_shares_are_as_asked(key: str, counter: str, share: float) -> None:
    fields: dict[str, Any] = {key: share, "delay_s": 1.0}
    if key == "reorder" and share == 1.0:
        assert share_of(Impairment(**fields), counter) == 0, "where all hurry nobody is overtaken"
        return
    found = share_of(Impairment(**fields), counter)
    assert abs(found - share) <= SIGMAS * sqrt(share * (1 - share) / MANY)


@pytest.mark.parametrize(("kind", "spread"), [(Jitter.UNIFORM, 0.01 / sqrt(3)), (Jitter.NORMAL, 0.01)])
def test_jitter_spreads_delays_as_asked(kind: Jitter, spread: float) -> None:
    link = link_of(Impairment(delay_s=0.1, jitter_s=0.01, jitter=kind))
    delays = []
    for number in range(2000):  # a second apart, so that none waits for the one before
        link.receive(frames(1), float(number))
        delays += [at - number for at, _ in comes(link)]
    assert fmean(delays) == pytest.approx(0.1, abs=SIGMAS * spread / sqrt(2000))
    assert stdev(delays) == pytest.approx(spread, rel=0.1)
    if kind is Jitter.UNIFORM:
        assert 0.09 <= min(delays) < 0.0905
        assert 0.1095 < max(delays) <= 0.11


def test_a_frame_that_overtakes_comes_at_once() -> None:
    link = link_of(Impairment(delay_s=1.0, reorder=0.2))
    sent = frames(100)
    link.receive(sent, 5.0)
    came = list(comes(link))
    early = [frame for at, frame in came if at == 5.0]
    assert [at for at, _ in came] == [5.0] * len(early) + [6.0] * (100 - len(early))
    assert link.counts.overtook in (len(early), len(early) - (sent[0] in early))
    assert sorted(frame for _, frame in came) == sent


def test_corruption_flips_one_bit() -> None:
    link = link_of(Impairment(corrupt=1.0))
    sent = frames(1000, 60)
    link.receive(sent, 0.0)
    flipped = Counter(
        (int.from_bytes(frame, "big") ^ int.from_bytes(before, "big")).bit_count()
        for before, (_, frame) in zip(sent, comes(link), strict=True)
    )
    assert flipped == {1: 1000}
    link.receive([b""], 1.0)
    assert [frame for _, frame in comes(link)] == [b""]


def test_a_change_does_not_wait_for_what_is_under_way() -> None:
    link = link_of(Impairment(delay_s=1.0, rate_bps=1000, queue_octets=10**6))
    sent = frames(100)
    link.receive(sent[:60], 0.0)  # twelve minutes of it
    link.change(Impairment(delay_s=0.02, rate_bps=10e6), 1.0)
    link.receive(sent[60:], 1.0)
    came = list(comes(link))
    assert [frame for _, frame in came] == sent
    assert came[-1][0] == pytest.approx(1.0 + 100 * 1514 * 8 / 10e6 + 0.02)
    balance(link)


def test_a_change_for_the_worse_holds_nothing_up_that_is_under_way() -> None:
    link = link_of(Impairment(delay_s=0.1))
    sent = frames(20)
    link.receive(sent[:10], 0.0)
    link.change(Impairment(delay_s=10.0), 0.05)
    link.receive(sent[10:], 0.05)
    assert list(comes(link)) == [(0.1, f) for f in sent[:10]] + [(10.05, f) for f in sent[10:]]


@given(st.lists(st.tuples(impairments, bursts), min_size=2, max_size=4), st.integers())
def test_changes_lose_nothing_and_keep_order(
    lives: list[tuple[Impairment, list[tuple[float, int, int]]]], seed: int
) -> None:
    link = link_of(Impairment(), seed)
    now, count, came = 0.0, 0, list[bytes]()
    for impairment, story in lives:
        link.change(impairment, now)
        balance(link)
        for gap_s, number, octets in story:
            now += gap_s
            came += (frame for _, frame in comes(link, now))
            link.receive(frames(number, octets, count), now)
            count += number
    came += (frame for _, frame in comes(link))
    balance(link)
    assert len(came) == link.counts.carried
    if not any(impairment.reorder for impairment, _ in lives):
        assert came == sorted(came, key=lambda frame: frame[:8])


def test_memory_is_bounded() -> None:
    link = link_of(Impairment(delay_s=1000.0))
    link.receive([bytes(1 << 16)] * 3000, 0.0)
    assert link.held * (1 << 16) <= HELD_OCTETS_MOST
    assert link.counts.dropped == 3000 - link.held > 0
    assert len(list(comes(link))) == 3000 - link.counts.dropped
    link.receive([bytes(1 << 16)] * 100, 1000.0)
    assert link.held == 100, "room is given back"


def test_the_same_chance_gives_the_same_fate() -> None:
    impairment = Impairment(delay_s=0.1, jitter_s=0.05, loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.1, rate_bps=1e6)
    story = [(0.01, 20, 1514)] * 50
    first, again, other = (live(link_of(impairment, seed), story)[1] for seed in (1, 1, 2))
    assert first == again != other


def test_time_between_frames_of_a_jittery_link_is_no_less_than_nothing() -> None:
    link = link_of(Impairment(delay_s=0.001, jitter_s=1.0))
    for number in range(100):
        link.receive(frames(1, first=number), number / 100)
    times = [at for at, _ in comes(link)]
    assert all(before <= after for before, after in pairwise(times))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"loss": 1.5}, "loss: 1.5 is no share; write 0 to 1, or 0 % to 100 %"),
        ({"duplicate": -0.1}, "duplicate: -0.1 is no share"),
        ({"corrupt": float("nan")}, "corrupt: nan is no share"),
        ({"delay_s": -1.0}, "delay: -1.0 s is no such time; write 0 s to 86400 s"),
        ({"jitter_s": inf}, "jitter: inf s is no such time"),
        ({"rate_bps": 0}, "rate: carries nothing; write for example 10 Mbit/s"),
        ({"queue_octets": -1}, "queue: less than nothing"),
        ({"reorder": 0.1}, "reorder: nothing can be overtaken without a delay"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Impairment(**fields)
