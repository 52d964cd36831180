"""The same targets under Hypothesis, which makes a finding as small as it can be."""

from __future__ import annotations

import pytest
from fuzz.harness import Target, checked
from fuzz.registry import find_targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = 60  # of each target; the larger part of the examples is in test_targets.py
TARGETS = find_targets()
# Where (as a part of the length, so that a change stays in place while a seed shrinks), how many octets go, what comes.
CHANGES = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 8), st.binary(max_size=12)), min_size=1, max_size=3)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_only_documented_outcomes(target: Target) -> None:
    seeds = sorted(target.seeds(), key=len)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(seeds), CHANGES)
    def check(seed: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        data = bytearray(seed)
        for place, octets, new in changes:
            start = len(data) * place // 1000
            data[start : start + octets] = new
        checked(target, target.prepare(bytes(data)))

    check()


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_have_only_documented_outcomes(target: Target, data: bytes) -> None:
    checked(target, data)
