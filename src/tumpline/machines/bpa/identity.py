"""Whose node this is, and how many delivered bundles of each source are remembered."""

from __future__ import annotations

from collections.abc import Callable

from tumpline.errors import ConfigError, MalformedError
from tumpline.machines.routing._api import Reception
from tumpline.wire.eid import Eid

MAX_SOURCES = 1024  # local endpoints whose EIDs are kept ready: applications choose them


class Names:
    """The node IDs of this node."""

    def __init__(self, primary: Eid, aliases: tuple[Eid, ...] = ()) -> None:
        for eid in (primary, *aliases):
            if not eid.is_administrative or eid.is_local:
                raise ConfigError(f"{eid} is no node ID; write dtn://NAME/ or ipn:NODE.0")
        self.primary = primary
        self.all = frozenset((primary, *aliases))
        self._sources: dict[str, Eid] = {}
        self.reception: Callable[[Eid], Reception | None] = lambda _: None  # what routing says about a destination

    def is_own(self, destination: Eid) -> bool:
        """Whether what is sent there is delivered here: endpoints of this node (RFC 9758: ipn:!.N always is), unless
        routing has a rule about them."""
        if destination in self.all or destination.is_local:
            return True
        rule = self.reception(destination)
        return destination.node in self.all if rule is None else rule is Reception.DELIVER

    def is_closed(self, destination: Eid) -> bool:
        """Whether nothing that others send there is taken (RFC 9758 §5.4: ipn:! never comes from another node)."""
        return destination.is_local or (destination not in self.all and self.reception(destination) is Reception.DELETE)

    def source(self, demux: str, node: Eid | None = None) -> Eid:
        """The local endpoint `demux` as source of a bundle, below the primary ID or the one that is named. Raises
        MalformedError where that cannot name it."""
        if node is not None and node != self.primary:
            if node not in self.all:
                raise MalformedError(f"{node} is none of this node's IDs: {', '.join(sorted(map(str, self.all)))}")
            return node.with_demux(demux)
        source = self._sources.get(demux)
        if source is None:
            source = self.primary.with_demux(demux)
            if len(self._sources) >= MAX_SOURCES:
                self._sources.clear()
            self._sources[demux] = source
        return source

    def endpoints(self, demux: str) -> list[Eid]:
        """`demux` below each node ID that can name it (an ipn node has numbered services only)."""
        found = []
        for node in self.all:
            try:
                found.append(node.with_demux(demux))
            except MalformedError:  # a name below an ipn node: that node ID has no such endpoint
                continue
        return found


class Identities:
    """Counts of remembered identities by source; the store keeps the identities themselves.

    Identities are never evicted to make room: a duplicate delivery is worse than a refused bundle.
    """

    def __init__(self, per_source: int) -> None:
        self.per_source = per_source
        self.counts: dict[str, int] = {}

    def is_full(self, source: str) -> bool:
        return self.counts.get(source, 0) >= self.per_source

    def remembered(self, source: str) -> None:
        self.counts[source] = self.counts.get(source, 0) + 1

    def forgotten(self, dropped: dict[str, int]) -> None:
        """What a sweep of the store dropped."""
        for source, number in dropped.items():
            left = self.counts.get(source, 0) - number
            if left > 0:
                self.counts[source] = left
            else:
                self.counts.pop(source, None)
