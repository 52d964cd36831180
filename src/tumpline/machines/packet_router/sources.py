"""Which sources are bound to which share, where there are several shares.

Whoever is not bound is served by the share for strangers, which takes what no other one does (an alternate exchange). A
source moves to its own share while it is quiet: what it had sent is through then, and nothing overtakes anything. One
router decides that: the one that is fed the strangers, for it sees whether they are quiet.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from tumpline.machines.packet_router.directory import Directory
from tumpline.machines.packet_router.keys import packet_patterns
from tumpline.machines.packet_router.outputs import Bind, Unbind
from tumpline.machines.packet_router.shares import Shares, preferred

STRANGERS: Final = "tumpline.router.shard.0"
QUIET_S: Final = 0.25  # longer than packets wait in a queue of a thousand


def share_of(source: str, shards: int) -> str:
    """The same for all routers."""
    return f"tumpline.router.shard.{int.from_bytes(blake2b(source.encode(), digest_size=8).digest()) % shards}"


class Sources:
    """`look` now and then, as `next_timeout` says."""

    def __init__(self, shards: int, directory: Directory, shares: Shares) -> None:
        self._shards = shards
        self._directory = directory
        self._shares = shares
        self._bound: set[str] = set()
        self._look_at: float | None = None
        self._seen: tuple[int, str, int] | None = None  # of what was noticed last: no need to think about it again

    def left(self) -> None:
        """The connection is gone, and the queues with it unless others use them: binding again does no harm."""
        self._bound.clear()
        self._look_at = self._seen = None

    def came_as_strangers(self, names: Iterable[str]) -> None:
        """Packets of these came by the share for strangers: they are bound nowhere else (any more)."""
        lost = {name for name in self._bound.intersection(names) if share_of(name, self._shards) != STRANGERS}
        if lost:
            self._bound -= lost
            self._seen = None

    def next_timeout(self) -> float | None:
        """When to `look`."""
        return self._look_at

    def notice(self, now: float) -> bool:
        """Something happened: agents or routers may have come or gone. Returns: whether `next_timeout` is another one."""
        state = (self._directory.version, self._shares.holder_of(STRANGERS), len(self._shares.routers))
        if self._look_at is not None or state == self._seen:
            return False
        self._seen = state
        if not self._decides():
            self._bound.clear()  # whoever decides does it; should we some day, we begin anew
        elif self._directory.agents.keys() != self._bound:
            self._look_at = now + QUIET_S
        return self._look_at is not None

    def look(self, now: float) -> list[Bind | Unbind]:
        """Those that are quiet move; those that went are forgotten."""
        if self._look_at is None or self._look_at > now:
            return []
        self._look_at = self._seen = None
        there = self._directory.agents
        quiet = {name for name in there.keys() - self._bound if now - there[name].heard_s >= QUIET_S}
        gone = self._bound - there.keys()
        if not self._decides():
            return []
        self._bound = (self._bound - gone) | quiet
        moved: list[Bind | Unbind] = [Bind(share_of(name, self._shards), packet_patterns(name)) for name in quiet]
        return moved + [Unbind(share_of(name, self._shards), packet_patterns(name)) for name in gone]

    def _decides(self) -> bool:
        holder, routers = self._shares.holder_of(STRANGERS), (self._shares.own, *self._shares.routers)
        return (holder if holder in routers else preferred(STRANGERS, routers)) == self._shares.own
