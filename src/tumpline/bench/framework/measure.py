"""Ours and the limit in turns, so that a slow minute of the machine falls on both."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Pair(NamedTuple):
    """Medians of alternating runs."""

    ours: float
    limit: float


def alternate(ours: Callable[[], float], limit: Callable[[], float], runs: int) -> Pair:
    """Run both `runs` times in turns. Each gives the figure of one run. Returns: the medians."""
    results: list[tuple[float, float]] = []
    for index in range(runs):
        # Who goes first changes too: warm caches favour the second.
        first, second = (ours, limit) if index % 2 == 0 else (limit, ours)
        one, two = first(), second()
        results.append((one, two) if index % 2 == 0 else (two, one))
    return Pair(statistics.median(pair[0] for pair in results), statistics.median(pair[1] for pair in results))


def rate_per_s(work: Callable[[], int]) -> float:
    """How many units a second `work` did; it gives back how many it did."""
    gc.collect()
    begin = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - begin)
