"""Integer ranges of UDPCL version 2: `[least, incl, excl, incl, ...]`, and the other ways in which they are written.

By the rule, each number after the first is the width (last - first) of an interval, included and excluded ones in turn, each
beginning one after the one before. The draft's own example breaks the rule, and the known demonstration agent follows a third
way. All three are read; which was meant shows in what was asked: nobody confirms what was never sent. Only the rule is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tumpline.errors import MalformedError

Interval = tuple[int, int]  # first and last, both included
Intervals = tuple[Interval, ...]  # in order, with gaps between them

# A confirmation answers one train of probes, extension support a registry with nine keys: 128 intervals are beyond both.
NUMBERS_MOST: Final = 256


def check_range(numbers: Sequence[int]) -> None:
    """The grammar: an even number of integers, all but the first unsigned. Raises: MalformedError."""
    if not numbers or len(numbers) % 2 or len(numbers) > NUMBERS_MOST:
        raise MalformedError(
            f"an integer range has an even number of integers, 2 to {NUMBERS_MOST}, not {len(numbers)}"
        )
    if min(numbers[1:]) < 0:
        raise MalformedError("an integer range has a negative width")


def read_by_rule(numbers: Sequence[int]) -> Intervals:
    """`[2, 0, 0, 2]` is 2 and 4 to 6."""
    found: list[Interval] = []
    first = numbers[0]
    for index, width in enumerate(numbers[1:]):
        if index % 2 == 0:
            found.append((first, first + width))
        first += width + 1
    return tuple(found)


def read_as_example(numbers: Sequence[int]) -> Intervals | None:
    """`[2, 0, 0, 0, 0, 2]`, printed in the draft for 2 and 4 to 6: every interval begins with a zero. None if it is not so."""
    if len(numbers) % 4 != 2 or any(numbers[2::2]):
        return None
    return read_by_rule((numbers[0], *numbers[1::2]))


def read_as_counts(numbers: Sequence[int]) -> Intervals | None:
    """`[2, 1, 1, 3]`, pairs of how many are left out and how many follow: 2 and 4 to 6. None if it is not so."""
    found: list[Interval] = []
    after = 0
    for gap, count in zip(numbers[::2], numbers[1::2], strict=True):
        # Nothing included, or nothing left out between two intervals: nobody who counts writes that.
        if count == 0 or (found and gap == 0):
            return None
        first = after + gap
        after = first + count
        found.append((first, after - 1))
    return tuple(found)


_READERS: Final[tuple[Callable[[Sequence[int]], Intervals | None], ...]] = (
    read_by_rule,
    read_as_example,
    read_as_counts,
)


def certain(numbers: Sequence[int], asked: Sequence[int]) -> frozenset[int]:
    """Which of `asked` are in the range, whoever wrote it: those in which all readings agree that name nothing else.

    Empty if no reading fits. Costs len(asked) * len(numbers); both are bounded by their owners.
    """
    known = frozenset(asked)
    fitting = [
        found
        for reader in _READERS
        if (intervals := reader(numbers)) is not None and (found := _members(intervals, known)) is not None
    ]
    return frozenset[int]().union(*fitting[:1]).intersection(*fitting)


def _members(intervals: Intervals, known: frozenset[int]) -> frozenset[int] | None:
    """The members of these intervals, None if one of them is not known."""
    found = frozenset(value for value in known if any(first <= value <= last for first, last in intervals))
    return found if len(found) == sum(last - first + 1 for first, last in intervals) else None


def write_range(intervals: Sequence[Interval]) -> tuple[int, ...]:
    """The range by the rule. The intervals are in order, and at least one integer lies between two of them."""
    first, last = intervals[0]
    numbers = [first, last - first]
    for first, following in intervals[1:]:
        assert first > last + 1, "intervals that touch are one"
        numbers += (first - last - 2, following - first)
        last = following
    return tuple(numbers)


def intervals_of(values: Sequence[int]) -> Intervals:
    """The intervals that these integers fill; they may come in any order and more than once."""
    found: list[list[int]] = []
    for value in sorted(set(values)):
        if found and value == found[-1][1] + 1:
            found[-1][1] = value
        else:
            found.append([value, value])
    return tuple((first, last) for first, last in found)
