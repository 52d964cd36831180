"""What was sent, and what came of it: each bundle by all of its octets."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

NAMED_MOST: Final = 5  # of each kind of fault: the first few say what went wrong
_SHOWN_OCTETS: Final = 16
_PREFIX_OCTETS_LEAST: Final = 24  # of bundles that differ in length: who has so many in common was one bundle


class Altered(NamedTuple):
    """A bundle that came otherwise than it was sent."""

    number: int  # from 0, in the order of sending
    at: int  # its first octet that differs
    sent_octets: int
    came_octets: int

    def __str__(self) -> str:
        cut = "" if self.sent_octets == self.came_octets else f"; {self.sent_octets} octets became {self.came_octets}"
        return f"bundle {self.number} came altered from octet {self.at} on{cut}"


class Surplus(NamedTuple):
    """Octets that came and are those of no bundle that was on its way."""

    octets: int
    begin: bytes

    def __str__(self) -> str:
        return f"{self.octets} octets came that nobody sent, or came twice: {self.begin.hex()}..."


class Ledger:
    """Of one exchange. Bundles on their way are kept whole, so bound how many there are."""

    def __init__(self) -> None:
        self.sent = 0
        self.sent_octets = 0
        self.equal = 0
        self.altered_count = 0
        self.surplus_count = 0
        self.altered: list[Altered] = []  # the first of them
        self.surplus: list[Surplus] = []
        self.pending_octets = 0
        self._pending: dict[bytes, deque[int]] = {}  # what is on its way -> its numbers: several bundles may be alike
        self._pending_count = 0

    @property
    def pending_count(self) -> int:
        """Bundles that were sent and have not come."""
        return self._pending_count

    @property
    def lost(self) -> list[int]:
        """The numbers of the first bundles that have not come."""
        return sorted(number for numbers in self._pending.values() for number in numbers)[:NAMED_MOST]

    @property
    def came(self) -> int:
        """Whatever has come."""
        return self.equal + self.altered_count + self.surplus_count

    @property
    def is_clean(self) -> bool:
        """Whether all that was sent came, once, and nothing else."""
        return self.equal == self.sent and not self.altered_count and not self.surplus_count

    def send(self, data: bytes) -> int:
        """It goes on its way. Returns its number."""
        number, self.sent = self.sent, self.sent + 1
        self.sent_octets += len(data)
        numbers = self._pending.get(data)
        if numbers is None:
            self._pending[data] = deque((number,))
        else:
            numbers.append(number)
        self._pending_count += 1
        self.pending_octets += len(data)
        return number

    def receive(self, data: bytes) -> None:
        """It has come: as it was sent, altered, or as something that nobody sent."""
        if data in self._pending:
            self._take(data)
            self.equal += 1
            return
        original = self._original(data)
        if original is None:
            self.surplus_count += 1
            if len(self.surplus) < NAMED_MOST:
                self.surplus.append(Surplus(len(data), data[:_SHOWN_OCTETS]))
            return
        number = self._take(original)
        self.altered_count += 1
        if len(self.altered) < NAMED_MOST:
            self.altered.append(Altered(number, _common(original, data), len(original), len(data)))

    def _take(self, data: bytes) -> int:
        numbers = self._pending[data]
        number = numbers.popleft()
        if not numbers:
            del self._pending[data]
        self._pending_count -= 1
        self.pending_octets -= len(data)
        return number

    def _original(self, data: bytes) -> bytes | None:
        """What this was before something altered it: of what is on its way, that with the most octets in common."""
        best, most = None, 0
        begin = data[:_PREFIX_OCTETS_LEAST]
        for sent in self._pending:
            same = 0
            if len(sent) == len(data):
                same = _common(sent, data)
                same += _common(sent[:same:-1], data[:same:-1])  # from the end, down to the first that differs
                if same * 2 < len(data):
                    continue
            elif len(begin) == _PREFIX_OCTETS_LEAST and sent.startswith(begin):
                same = _common(sent, data)
            if same > most:
                best, most = sent, same
        return best


def _common(one: bytes, other: bytes) -> int:
    """Octets that both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
