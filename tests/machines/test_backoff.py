"""Back-off: doubling, capped, spread, and reset."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.backoff import Backoff


def test_doubles_up_to_the_cap() -> None:
    backoff = Backoff(lambda: 1.0, first_s=1.0, cap_s=5.0)
    assert [backoff.next_delay_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.attempts == 5


def test_the_lower_half_is_never_used() -> None:
    backoff = Backoff(lambda: 0.0, first_s=1.0, cap_s=4.0)
    assert [backoff.next_delay_s() for _ in range(4)] == [0.5, 1.0, 2.0, 2.0]


def test_success_begins_anew() -> None:
    backoff = Backoff(lambda: 1.0, first_s=1.0, cap_s=8.0)
    for _ in range(3):
        backoff.next_delay_s()
    backoff.reset()
    assert backoff.next_delay_s() == 1.0


@given(st.integers(0, 2_000), st.integers())
def test_stays_within_bounds_however_long_it_lasts(attempts: int, seed: int) -> None:
    backoff = Backoff(random.Random(seed).random, first_s=0.25, cap_s=30.0)
    backoff.attempts = attempts
    assert 0.125 <= backoff.next_delay_s() <= 30.0


@pytest.mark.parametrize(("first_s", "cap_s"), [(0.0, 1.0), (2.0, 1.0)])
def test_senseless_bounds_are_refused(first_s: float, cap_s: float) -> None:
    with pytest.raises(ValueError, match="back-off needs"):
        Backoff(random.random, first_s, cap_s)
