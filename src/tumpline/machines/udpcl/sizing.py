"""How long the datagrams of one conversation are: as configured, or as path MTU discovery has found."""

from __future__ import annotations

from collections.abc import Callable

from tumpline.machines.udpcl.events import Event, PathMtuFound, PathMtuShrank
from tumpline.machines.udpcl.path_mtu import PathMtu, Phase, Timing
from tumpline.machines.udpcl.segmentation import DATAGRAM_OCTETS_LEAST
from tumpline.wire.dtls import PLAINTEXT_OCTETS_MOST
from tumpline.wire.udpcl import Confirmation


class Sizing:
    """`search` begins; events tell what came of it. Sizes are of UDP payloads, records of DTLS included."""

    def __init__(self, base_octets: int, most_octets: int, chance: Callable[[], float]) -> None:
        self.path_mtu: PathMtu | None = None
        self.events: list[Event] = []
        self.overhead_octets = 0  # how much longer a record of DTLS is than what it carries
        self._base_octets = base_octets
        self._most_octets = max(most_octets, base_octets)
        self._chance = chance
        self._told: Phase | None = None

    @property
    def datagram_octets(self) -> int:
        """The longest datagram that is sent now, before encryption: what one record holds. Of records that are shorter than
        the path allows, several fit into one datagram."""
        path, overhead = self.path_octets, self.overhead_octets
        if not overhead:
            return max(DATAGRAM_OCTETS_LEAST, path)
        records = -(-path // (PLAINTEXT_OCTETS_MOST + overhead))
        return max(DATAGRAM_OCTETS_LEAST, path // records - overhead)

    @property
    def path_octets(self) -> int:
        """The longest datagram that is sent now, after encryption."""
        return self._base_octets if self.path_mtu is None else self.path_mtu.datagram_octets

    def search(self, now: float, steps: int | None = None) -> None:
        """Find out now. `steps`: into how many sizes what lies between base and most is divided."""
        timing = Timing(self._base_octets, self._most_octets)
        if steps:
            timing = timing._replace(step_octets=max(1, (self._most_octets - self._base_octets) // steps))
        self.path_mtu = PathMtu(int(self._chance() * (1 << 32)), now, timing)
        self._told = None

    def next_timeout(self) -> float | None:
        """When `probe` has something to do."""
        return None if self.path_mtu is None else self.path_mtu.next_timeout()

    def probe(self, now: float) -> bytes | None:
        """A probe to be sent, if one is due."""
        if self.path_mtu is None:
            return None
        probe = self.path_mtu.handle_timeout(now)
        self._tell()
        return None if probe is None else probe[: len(probe) - self.overhead_octets]

    def confirmed(self, confirmation: Confirmation, now: float) -> None:
        """The peer says which probes came."""
        if self.path_mtu is not None:
            self.path_mtu.confirmed(confirmation, now)
            self._tell()

    def suspect(self, now: float) -> None:
        """What is sent seems not to come."""
        if self.path_mtu is not None:
            self.path_mtu.suspect(now)

    def message_too_long(self, octets: int, now: float) -> None:
        """The system, or a router by ICMP, says that a datagram of so many octets, after encryption, does not pass
        (RFC 8899 §4.6)."""
        if self.path_mtu is None:
            self.search(now)
        assert self.path_mtu is not None
        self.path_mtu.message_too_long(octets, now)
        self._tell()

    def _tell(self) -> None:
        """What has become of the search, once."""
        assert self.path_mtu is not None
        phase, told = self.path_mtu.phase, self._told
        if phase is told:
            return
        self._told = phase
        if phase in (Phase.COMPLETE, Phase.ERROR):
            self.events.append(PathMtuFound(self.path_mtu.datagram_octets, phase is Phase.COMPLETE))
        elif phase is Phase.BASE and told is not None:
            self.events.append(PathMtuShrank(self.path_mtu.datagram_octets))
