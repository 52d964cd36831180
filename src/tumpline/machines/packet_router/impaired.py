"""Packets under way between two agents over links that misbehave as told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from tumpline.machines.impairment import Chance, ImpairedLink, Impairment
from tumpline.machines.packet_router.keys import Form

PAIRS_MOST: Final = 4096  # of agents; each holds up to the memory of an ImpairedLink only while packets are under way


class Way(NamedTuple):
    """From whom to whom, and what is needed to write the packet there."""

    source: str
    target: str
    key: str  # routing key of the message it becomes
    form: Form | None  # in which it is to be written; None: a sealed batch, which goes as it is


class Impairments:
    """What befalls packets, by pair of agents: that of the topology's link, or one for all."""

    def __init__(self, everywhere: Impairment | None, random: Chance) -> None:
        self.everywhere = everywhere
        self._random = random
        self._links: dict[Way, ImpairedLink] = {}
        self.refused = 0

    def of(self, reach: Mapping[str, Impairment | None] | None, target: str) -> Impairment | None:
        """None: nothing befalls packets to that target."""
        own = None if reach is None else reach.get(target)
        return self.everywhere if own is None else own

    def receive(self, way: Way, impairment: Impairment, packet: bytes, now: float) -> None:
        """One goes in."""
        link = self._links.get(way)
        if link is None:
            if len(self._links) >= PAIRS_MOST:
                self._tidy()
            if len(self._links) >= PAIRS_MOST:
                self.refused += 1
                return
            link = self._links[way] = ImpairedLink(impairment, self._random)
        link.receive((packet,), now)

    def due(self, now: float) -> Iterator[tuple[Way, bytes]]:
        """Those that come out by now, in order for each pair."""
        for way, link in self._links.items():
            at = link.next_timeout()
            if at is not None and at <= now:
                for packet in link.due(now):
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

    def change(self, impairment: Impairment | None, now: float) -> None:
        """From now on this befalls packets everywhere where the topology says nothing else."""
        before, self.everywhere = self.everywhere, impairment
        for link in self._links.values():
            if link.impairment == before:
                link.change(impairment or Impairment(), now)

    def _tidy(self) -> None:
        self._links = {way: link for way, link in self._links.items() if link.held}


def _counts(link: ImpairedLink) -> dict[str, int]:
    counts = link.counts
    return {"carried": counts.carried, "lost": counts.lost, "dropped": counts.dropped, "duplicated": counts.duplicated}
