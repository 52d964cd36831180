"""Rows in order of their numbers: adding, removing and finding what follows a number stay cheap at any size."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

# Numbers are filed by their upper bits. 512 in a drawer: finding a place in one takes a few microseconds at most, and a
# million bundles need 2,000 drawers.
DRAWER_BITS = 9

Row = tuple[Any, ...]  # begins with its number


class OrderedRows:
    """A map seq -> row that can be read onwards from any number, held or not.

    Drawers are dicts, which keep the order of insertion; numbers come almost always in ascending order.
    """

    __slots__ = ("_drawers", "_labels", "rows")

    def __init__(self) -> None:
        self._drawers: dict[int, dict[int, Row]] = {}
        self._labels: list[int] = []  # of the drawers, ascending
        self.rows = 0

    def get(self, seq: int) -> Row | None:
        drawer = self._drawers.get(seq >> DRAWER_BITS)
        return None if drawer is None else drawer.get(seq)

    def add(self, row: Row) -> None:
        seq: int = row[0]
        label = seq >> DRAWER_BITS
        drawer = self._drawers.get(label)
        if drawer is None:
            drawer = self._new_drawer(label)
        late = bool(drawer) and seq < next(reversed(drawer))
        drawer[seq] = row
        self.rows += 1
        if late:
            self._drawers[label] = dict(sorted(drawer.items()))

    def remove(self, seq: int) -> Row | None:
        label = seq >> DRAWER_BITS
        drawer = self._drawers.get(label)
        if drawer is None:
            return None
        row = drawer.pop(seq, None)
        if row is not None:
            self.rows -= 1
            if not drawer:
                del self._drawers[label]
                del self._labels[bisect_left(self._labels, label)]
        return row

    def after(self, seq: int, limit: int) -> list[Row]:
        """At most `limit` rows with larger numbers, ascending."""
        found: list[Row] = []
        first = seq >> DRAWER_BITS
        for place in range(bisect_left(self._labels, first), len(self._labels)):
            label = self._labels[place]
            drawer = self._drawers[label]
            if label == first:
                found += [row for number, row in drawer.items() if number > seq]
            else:
                found += drawer.values()
            if len(found) >= limit:
                return found[:limit]
        return found

    def highest(self) -> int:
        """The highest number held, 0 if empty."""
        return next(reversed(self._drawers[self._labels[-1]])) if self._labels else 0

    def __iter__(self) -> Iterator[Row]:
        for label in self._labels:
            yield from self._drawers[label].values()

    def _new_drawer(self, label: int) -> dict[int, Row]:
        if not self._labels or label > self._labels[-1]:
            self._labels.append(label)
        else:
            self._labels.insert(bisect_left(self._labels, label), label)
        drawer: dict[int, Row] = {}
        self._drawers[label] = drawer
        return drawer
