"""What every node promises, and the bookkeeping that finds a broken promise.

*Nothing lost*: an ADU whose sender was told "stored" arrives, unless its lifetime ends first. *Nothing twice*: the
destination commits each ADU once. *Bounded*: no store passes its quota. *Time goes on*: no deadline lies in the past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tumpline.testing.world.simulation import World


class BrokenPromiseError(AssertionError):
    """A simulated network did what a network of tumpline nodes must never do; the seed repeats it."""


class Sent(NamedTuple):
    """An ADU that a node took responsibility for."""

    source: str  # name of the node
    destination: str
    expires_at: float  # virtual seconds


class Promises:
    """Everything promised so far in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sent: dict[str, Sent] = {}
        self.delivered: dict[str, int] = {}

    def promise(self, mark: str, sent: Sent) -> None:
        """The sender was told that its ADU is stored; `mark` is in the ADU and nowhere else."""
        self.sent[mark] = sent

    def commit(self, node: str, mark: str, already: bool) -> None:
        """A service's commit with this mark became durable; `already`: its record was there before."""
        self.delivered[mark] = self.delivered.get(mark, 0) + 1
        if already or self.delivered[mark] > 1:
            raise self._world.broken(f"{mark} was delivered twice at {node}")

    def check(self) -> None:
        """What must hold after every step."""
        now = self._world.now
        for name, node in self._world.nodes.items():
            if not node.is_up:
                continue
            deadline = node.next_timeout()
            if deadline is not None and deadline < now:
                raise self._world.broken(f"a deadline of {name} lies {now - deadline:.6f} s in the past")
            if node.held_octets > node.quota_octets:
                raise self._world.broken(f"{name} holds {node.held_octets} octets, its quota is {node.quota_octets}")

    def missing(self) -> list[str]:
        """Marks that were promised, are alive and are not durably delivered."""
        nodes, now = self._world.nodes, self._world.now
        return [
            mark
            for mark, sent in self.sent.items()
            if sent.expires_at > now and not nodes[sent.destination].has_delivered(mark)
        ]

    def settle(self) -> None:
        """At the end, when all faults have stopped and all had time to converge. Raises BrokenPromiseError."""
        if missing := self.missing():
            raise self._world.broken(f"{len(missing)} of {len(self.sent)} promised ADUs were lost: {missing[:5]}")
