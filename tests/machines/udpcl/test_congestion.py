"""The rate follows what the peer tells, and is kept in batches."""

from __future__ import annotations

import pytest

from tumpline.machines.impairment import Impairment
from tumpline.machines.udpcl.congestion import BURST_S, FIXED_BURST_S, Congestion, Pace
from tumpline.machines.udpcl.conversation import ConversationConfig
from tumpline.machines.udpcl.feedback import IMMEDIATE_S, REPEATS_MOST, Feedback, Spacing
from tumpline.testing.udpcl import End, Two
from tumpline.wire.udpcl import EcnCounts

OCTETS = 1000
NAMED = ConversationConfig()


def keep_sending(two: Two, end_s: float, bundles_per_step: int = 2000, step_s: float = 0.05) -> None:
    """There is always something to send."""
    number = 0
    while two.now < end_s:
        while two.a.machine.outbox.queued_octets < bundles_per_step * OCTETS:
            two.a.machine.offer(number, b"\x9f" + bytes(OCTETS - 1), two.now)
            number += 1
        two.until(two.now + step_s)


def rate_bps(two: Two) -> float:
    return two.a.machine.congestion.rate_octets_s * 8


def test_it_finds_the_rate_of_a_bottleneck() -> None:
    """A queue that fills is noticed before it overflows; what is lost is counted."""
    two = Two(bad=Impairment(delay_s=0.01, rate_bps=20e6, queue_octets=200_000))
    keep_sending(two, 10.0)
    carried = len(two.b.got) * OCTETS * 8 / 10.0
    assert carried > 0.5 * 20e6
    assert rate_bps(two) < 2 * 20e6
    lost = len(two.a.sent) - len(two.b.got)
    assert lost < 0.05 * len(two.a.sent)


def test_marks_make_it_slower() -> None:
    two = Two()
    two.marked = 0.5
    keep_sending(two, 3.0)
    slow = rate_bps(two)
    assert slow < 10e6
    assert two.a.machine.congestion.marked > 0
    two.marked = 0.0
    keep_sending(two, 8.0)
    assert rate_bps(two) > 1.5 * slow


def test_losses_make_it_slower_and_are_counted() -> None:
    two = Two(bad=Impairment(delay_s=0.02, loss=0.2))
    keep_sending(two, 5.0)
    congestion = two.a.machine.congestion
    assert rate_bps(two) < 10e6
    real = two.a.machine.counts.datagrams_sent - two.b.machine.counts.datagrams_received
    assert congestion.lost == pytest.approx(real, rel=0.3)


def test_answers_that_end_make_it_slower_and_slower() -> None:
    two = Two(config=NAMED._replace(pace=Pace(most_octets_s=4e6)))
    keep_sending(two, 2.0)
    fast = rate_bps(two)
    two.change(Impairment(loss=1.0))
    keep_sending(two, 12.0)
    assert rate_bps(two) < fast / 30
    two.change(Impairment(delay_s=0.02))
    keep_sending(two, 20.0)
    assert rate_bps(two) > fast / 30


def test_a_peer_that_never_answers_is_sent_to_at_the_first_rate() -> None:
    two = Two(config_b=NAMED._replace(tells_ecn=False))
    keep_sending(two, 5.0)
    assert rate_bps(two) == Pace().first_octets_s * 8
    assert len(two.b.got) * OCTETS / 5.0 == pytest.approx(Pace().first_octets_s, rel=0.1)


@pytest.mark.parametrize("octets_s", [10_000.0, 1e6, 1e7])
def test_a_configured_rate_is_kept_whatever_the_peer_tells(octets_s: float) -> None:
    two = Two(config=NAMED._replace(pace=Pace(fixed_octets_s=octets_s)), bad=Impairment(delay_s=0.01, loss=0.3))
    two.marked = 0.9
    span_s = 4.0 if octets_s < 1e7 else 0.5
    two.a.machine.offer(0, bytes(1) * 5, 0.0)
    keep_sending(two, span_s, bundles_per_step=int(octets_s * 0.06 / OCTETS) + 5)
    assert two.a.machine.counts.octets_sent / span_s == pytest.approx(octets_s, rel=0.15)


def test_it_goes_in_batches() -> None:
    """One wake-up for many datagrams: not a timer for each."""
    two = Two(config=NAMED._replace(pace=Pace(fixed_octets_s=1e8), datagram_octets=1200))
    wakes = count_polls(two.a)
    keep_sending(two, 0.5, bundles_per_step=10_000)
    assert two.a.machine.counts.datagrams_sent > 20_000
    assert wakes[0] < two.a.machine.counts.datagrams_sent / 20


def count_polls(end: End) -> list[int]:
    polls, poll = [0], end.machine.poll

    def counted(now: float) -> list[object]:
        batches = poll(now)
        polls[0] += bool(batches)
        return list(batches)

    end.machine.poll = counted  # type: ignore[method-assign, assignment]
    return polls


def test_an_idle_hour_allows_no_more_than_a_burst() -> None:
    assert Congestion(Pace(fixed_octets_s=1e6), 0.0).allowance(3600.0) == 1e6 * FIXED_BURST_S
    assert Congestion(Pace(first_octets_s=1e6), 0.0).allowance(3600.0) == 1e6 * BURST_S


def test_counts_that_cannot_be_are_passed_over() -> None:
    congestion = Congestion(Pace(), 0.0)
    congestion.sent(1000, 10, is_marked=True, now=0.0)
    for counts in ((0, 10, 0), (0, 5, 0), (0, 5, 5), (2**32 - 1, 0, 0), (0, 3, 2**32 - 1)):
        congestion.answered(EcnCounts(*counts), 0.1)
    assert 0 < congestion.rate_octets_s <= 2 * Pace().first_octets_s


def test_counts_begin_anywhere_and_wrap() -> None:
    congestion = Congestion(Pace(), 0.0)
    came = 2**32 - 20
    for step in range(1, 10):
        congestion.allowance(step * 0.1)
        congestion.sent(100_000, 10, is_marked=True, now=step * 0.1)
        came += 10
        congestion.answered(EcnCounts(0, came % 2**32, 0), step * 0.1 + 0.02)
    assert congestion.lost == 0
    assert congestion.rate_octets_s > Pace().first_octets_s


# ---- telling ---------------------------------------------------------------------------------------------------------


def test_changes_are_told_soon_but_not_too_often_and_repeats_end() -> None:
    """Older agent: 20 ms at least apart, once a second, three repeats."""
    feedback = Feedback()
    feedback.count(1, 5, 10.0)
    assert feedback.due(10.0) == EcnCounts(0, 5, 0)
    feedback.count(3, 1, 10.001)
    assert feedback.next_timeout() == 10.0 + IMMEDIATE_S
    assert feedback.due(10.01) is None
    assert feedback.due(10.02) == EcnCounts(0, 5, 1)
    told = []
    while (at := feedback.next_timeout()) is not None:
        told.append(feedback.due(at))
    assert told == [EcnCounts(0, 5, 1)] * REPEATS_MOST
    feedback.count(2, 1, 100.0)
    assert feedback.due(100.0) == EcnCounts(1, 5, 1)


def test_how_often_is_told_can_be_said() -> None:
    feedback = Feedback(Spacing(0.5, 7.0))
    feedback.count(1, 1, 0.0)
    feedback.due(0.0)
    assert feedback.next_timeout() == 7.0
    feedback.count(1, 1, 0.1)
    assert feedback.next_timeout() == 0.5
