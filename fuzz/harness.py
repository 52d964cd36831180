"""What a target is, and how one is run: every input may be refused in the documented way, and in no other.

The time and the memory of each input are measured alone. Memory is what tracemalloc counts: all that Python and the
extension modules which use its allocators hold beyond what they held before the input.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from fuzz.mutate import mutated
from tumpline.errors import MalformedError


class Target(NamedTuple):
    """One decoder or machine. `run` tells whether the input was accepted; it may raise MalformedError, and nothing else."""

    name: str
    summary: str
    seeds: Callable[[], Sequence[bytes]]  # real traffic, made anew in each process
    run: Callable[[bytes], bool]
    # Octets that one input of n octets may occupy: peak_base + peak_factor * n. The reason stands beside the figures.
    peak_base: int
    peak_factor: int
    prepare: Callable[[bytes], bytes] = bytes  # of a mutated input, such as: make its checksums right

    def peak_most(self, octets: int) -> int:
        """The memory that an input of so many octets may take."""
        return self.peak_base + self.peak_factor * octets


class FindingError(AssertionError):
    """An input had an effect that is documented nowhere; `data` is that input."""

    def __init__(self, target: str, data: bytes, why: str) -> None:
        super().__init__(f"{target}: {why}; the input is {data[:200].hex()}{'...' if len(data) > 200 else ''}")
        self.target = target
        self.data = data


class Figures(NamedTuple):
    """What a run saw."""

    examples: int
    accepted: int
    seconds: float
    peak_octets: int  # of the input that took the most
    slowest_ms: float

    def with_one(self, accepted: bool, peak_octets: int, milliseconds: float) -> Figures:
        """One more input."""
        return self._replace(
            examples=self.examples + 1,
            accepted=self.accepted + accepted,
            peak_octets=max(self.peak_octets, peak_octets),
            slowest_ms=max(self.slowest_ms, milliseconds),
        )


def checked(target: Target, data: bytes) -> bool:
    """Run one input: whether it was accepted. Raises: FindingError."""
    try:
        return target.run(data)
    except MalformedError:
        return False
    except Exception as error:
        raise FindingError(target.name, data, f"{type(error).__name__}: {error}") from error


def inputs(target: Target, chance: Random) -> Iterator[bytes]:
    """The seeds as they are, then mutations of them without end."""
    seeds = list(target.seeds())
    yield from seeds
    while True:
        yield target.prepare(mutated(chance, seeds))


def fuzz(target: Target, *, examples: int | None = None, seconds: float | None = None, seed: int = 0) -> Figures:
    """Run until so many examples or seconds are over. The same seed and number give the same inputs.

    Raises: FindingError (an undocumented effect, or more memory than the target allows)."""
    assert examples is not None or seconds is not None, "a run has an end"
    source = inputs(target, Random(f"{target.name} {seed}"))
    figures, begin = Figures(0, 0, 0.0, 0, 0.0), time.monotonic()
    tracemalloc.start()
    try:
        while examples is None or figures.examples < examples:
            if seconds is not None and time.monotonic() - begin >= seconds:
                break
            figures = _one(target, next(source), figures)
    finally:
        tracemalloc.stop()
    return figures._replace(seconds=time.monotonic() - begin)


def _one(target: Target, data: bytes, figures: Figures) -> Figures:
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    begin = time.process_time()
    accepted = checked(target, data)
    milliseconds = (time.process_time() - begin) * 1000
    _, peak = tracemalloc.get_traced_memory()
    if peak - before > target.peak_most(len(data)):
        most = target.peak_most(len(data))
        raise FindingError(
            target.name, data, f"{peak - before} octets of memory for {len(data)}, at most {most} are allowed"
        )
    return figures.with_one(accepted, peak - before, milliseconds)
