"""How long datagrams to one peer may be, found out by probes (RFC 8899 over UDPCL's Peer Probe and Peer Confirmation).

One probe is under way at a time, each with a sequence number of its own: so no way of writing a confirmation leaves doubts
(`wire.udpcl_range`), and a peer has to remember one nonce. Sizes are of UDP payloads.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from tumpline.machines.udpcl.segmentation import DATAGRAM_OCTETS_LEAST
from tumpline.wire.udpcl import Confirmation, Datagram, Extensions, Kind, Probe, encode_datagram
from tumpline.wire.udpcl_range import certain

MAX_PROBES: Final = 3  # RFC 8899 §5.1.2: default; so many unanswered ones of one size are a failure
SUSPECT_S: Final = 5.0  # between two looks because something was lost
REMEMBERED: Final = 2 * MAX_PROBES  # probes whose late confirmation still counts


class Phase(Enum):
    """RFC 8899 §5.2."""

    BASE = "base"  # whether the peer confirms at all
    SEARCHING = "searching"
    COMPLETE = "complete"
    ERROR = "error"  # it does not, even at the base size; bundles are sent in that all the same


class Timing(NamedTuple):
    """Seconds, and octets."""

    base_octets: int = 1200  # RFC 8899 §5.1.2: BASE_PLPMTU
    most_octets: int = 9000 - 48  # a jumbo frame's, behind IPv6 and UDP
    step_octets: int = 16  # a search that is so close is over
    answer_s: float = 2.0  # RFC 8899 §5.1.1: PROBE_TIMER, SHOULD NOT be shorter than 1 s
    raise_s: float = 600.0  # RFC 8899 §5.1.1: PMTU_RAISE_TIMER
    confirm_s: float = 30.0  # how often a size found is confirmed again, to see a black hole


class PathMtu:
    """`datagram_octets` is what may be sent now. `nonce` is chance, handed in; `start` begins."""

    def __init__(self, nonce: int, now: float, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self.phase = Phase.BASE
        self._base = self.timing.base_octets
        self.datagram_octets = self._base
        self.black_holes = 0
        self._nonce = nonce
        self._sequence = 0
        self._sent: dict[int, int] = {}  # size by sequence number
        self._size = self._base  # what is probed now
        self._tries = 0
        self._too_long = self.timing.most_octets + 1  # the least size known not to pass
        self._raise_at = 0.0
        self._suspect_from = now
        self._deadline = now

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called."""
        return self._deadline

    def handle_timeout(self, now: float) -> bytes | None:
        """A probe to be sent, if one is due."""
        if now < self._deadline:
            return None
        if self.phase is Phase.COMPLETE and not self._tries:
            self._begin_check(now)
        if self._tries == MAX_PROBES:
            self._fail(now)
            if now < self._deadline:
                return None
        return self._probe(now)

    def confirmed(self, confirmation: Confirmation, now: float) -> None:
        """The peer says what has come. What was never sent confirms nothing."""
        if confirmation.nonce != self._nonce:
            return
        sizes = [self._sent[number] for number in certain(confirmation.numbers, tuple(self._sent))]
        # A late answer to a size that has failed since is no reason to go back up: the raise timer is.
        sizes = [size for size in sizes if size < self._too_long]
        if sizes and max(sizes) >= self._size:
            self.datagram_octets = max(self.datagram_octets, *sizes)
            self._search(now)

    def message_too_long(self, octets: int, now: float) -> None:
        """The system says of a datagram of this size that it does not pass (EMSGSIZE)."""
        if octets >= self._too_long:
            return
        self._too_long = octets
        if octets <= self._base:
            self._base = max(DATAGRAM_OCTETS_LEAST, octets * 3 // 4)  # a path below every recommendation
        if octets <= self.datagram_octets:
            self._fall_back(now)
        elif octets <= self._size:
            self._search(now)

    def suspect(self, now: float) -> None:
        """Datagrams of the size found seem not to come (RFC 8899 §4.3): look now, not at the next check. On a path that loses
        some anyway that costs a probe now and then."""
        is_checking = self.phase is not Phase.COMPLETE or self._tries
        if not is_checking and self.datagram_octets > self._base and now >= self._suspect_from:
            self._suspect_from = now + SUSPECT_S
            self._deadline = min(self._deadline, now)

    def _probe(self, now: float) -> bytes:
        self._tries += 1
        number, self._sequence = self._sequence, self._sequence + 1
        self._sent[number] = self._size
        if len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._deadline = now + self.timing.answer_s
        probe = Extensions(probe=Probe(self._nonce, number, 0))
        bare = encode_datagram(Datagram(Kind.EXTENSIONS, maps=(probe,)))
        return bare + bytes(self._size - len(bare))

    def _begin_check(self, now: float) -> None:
        if now >= self._raise_at:
            self._too_long = self.timing.most_octets + 1
            self._search(now)
        else:
            self._size = self.datagram_octets

    def _fail(self, now: float) -> None:
        """So many probes of this size were not confirmed."""
        self._tries = 0
        if self._size > self.datagram_octets:
            self._too_long = self._size
            self._search(now)
        elif self._size > self._base:
            self._too_long = self._size
            self._fall_back(now)
        else:
            # draft: no confirmation is not unreachability.
            self.phase = Phase.ERROR
            self._deadline = now + self.timing.confirm_s

    def _fall_back(self, now: float) -> None:
        """RFC 8899 §4.3: what passed does so no more: from the base size on anew."""
        self.black_holes += 1
        self.phase = Phase.BASE
        self.datagram_octets = self._size = self._base
        self._sent.clear()
        self._tries = 0
        self._deadline = now

    def _search(self, now: float) -> None:
        """Half of what is left, until that is a step."""
        self._tries = 0
        left = self._too_long - self.datagram_octets
        if left > self.timing.step_octets:
            self.phase = Phase.SEARCHING
            self._size = self.datagram_octets + left // 2
            self._deadline = now
            return
        if self.phase is not Phase.COMPLETE:
            self._raise_at = now + self.timing.raise_s
        self.phase = Phase.COMPLETE
        self._size = self.datagram_octets
        self._deadline = now + self.timing.confirm_s
