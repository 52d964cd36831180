"""Packets under way between two agents over links that misbehave as told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from tumpline.machines.impairment import FRAME_COST_OCTETS, Chance, ImpairedLink, Impairment
from tumpline.machines.packet_router.keys import Form
from tumpline.machines.packet_router.topology import Reach

PAIRS_MOST: Final = 4096  # of agents
HELD_OCTETS_MOST: Final = 256 << 20  # of all pairs together; a second of 1 Gbit/s, twice


class Way(NamedTuple):
    """From whom to whom, by name, and in which form it came: None for a sealed batch, which goes on as it is."""

    source: str
    target: str
    form: Form | None


class Impairments:
    """What befalls packets, by pair of agents: that of the topology's link, or one for all."""

    def __init__(self, everywhere: Impairment | None, reach: Reach | None, random: Chance) -> None:
        self.everywhere = everywhere
        self.refused = 0  # packets for which there was no room
        self._held_octets = 0
        self._reach = reach or {}
        self._random = random
        self._links: dict[Way, ImpairedLink] = {}

    @property
    def is_used(self) -> bool:
        """Whether packets are under way, or were."""
        return bool(self._links)

    def between(self, source: str, target: str) -> Impairment | None:
        """None: nothing befalls packets from here to there."""
        own = self._reach[source].get(target) if source in self._reach else None
        return self.everywhere if own is None else own

    def receive(self, way: Way, impairment: Impairment, packet: bytes, now: float) -> None:
        """One goes in."""
        if way not in self._links and len(self._links) >= PAIRS_MOST:
            self._tidy()
        if self._held_octets >= HELD_OCTETS_MOST or (way not in self._links and len(self._links) >= PAIRS_MOST):
            self.refused += 1
            return
        if way not in self._links:
            self._links[way] = ImpairedLink(impairment, self._random)
        link = self._links[way]
        before = link.held
        link.receive((packet,), now)
        self._held_octets += (link.held - before) * _cost(packet)  # none where it was lost, two where it was doubled

    def due(self, now: float) -> Iterator[tuple[Way, bytes]]:
        """Those that come out by now, in order for each pair."""
        for way, link in self._links.items():
            at = link.next_timeout()
            if at is not None and at <= now:
                for packet in link.due(now):
                    self._held_octets -= _cost(packet)
                    yield way, packet

    def next_timeout(self) -> float | None:
        """When the next one comes out."""
        times = [at for link in self._links.values() if (at := link.next_timeout()) is not None]
        return min(times, default=None)

    def snapshot(self) -> list[dict[str, object]]:
        """For people."""
        return [
            {"source": way.source, "target": way.target, "held": link.held, **_counts(link)}
            for way, link in self._links.items()
        ]

    def _tidy(self) -> None:
        self._links = {way: link for way, link in self._links.items() if link.held}


def _cost(packet: bytes) -> int:
    return len(packet) + FRAME_COST_OCTETS


def _counts(link: ImpairedLink) -> dict[str, int]:
    counts = link.counts
    return {"carried": counts.carried, "lost": counts.lost, "dropped": counts.dropped, "duplicated": counts.duplicated}
