"""How many octets the node keeps, and how many it has promised to take.

Full stores must not lock each other up: nodes that wait for room at each other, in a circle, would wait for ever. So the
last quarter of the quota is a staircase. A bundle that has made more hops may climb higher, and one that has arrived
highest: whoever has come furthest always finds room before it, until it is delivered (ARCHITECTURE.md, "Full stores").
"""

from __future__ import annotations

# A bundle that made h hops may fill the store up to stair h; the top one is for those that are delivered here. With
# eight, a bundle that needs up to eight hops always gets through; longer ways are rare among configured routes.
STAIRS = 8
# A stair is this part of the quota: all of them are a quarter. Of 10 GiB that is 320 MiB, enough for most bundles.
STAIR_PART = 32
FIRST_HOP = 1  # of what comes from a neighbour and does not say how far it came
# One eighth of the room is never promised to bundles that have only begun to arrive: peers that announce much and send
# little would otherwise keep out everyone's small bundles for as long as they like.
ASIDE = 8


class Quota:
    """Octets held in the store (or on their way into it) and reserved for bundles that are arriving."""

    __slots__ = ("held", "limit", "reserved", "stair_octets")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.reserved = 0
        self.stair_octets = limit // STAIR_PART

    @property
    def free(self) -> int:
        """Octets that may still be taken; negative after the limit was lowered below what is held."""
        return self.limit - self.held - self.reserved

    @property
    def free_to_all(self) -> int:
        """Octets that any bundle may take, however far it came."""
        return self.limit - self.held - self.reserved - STAIRS * self.stair_octets

    def room(self, hops: int, *, arrived: bool = False) -> int:
        """Octets that a bundle may take after so many hops; `arrived`: it is delivered here."""
        if arrived or not self.held:
            return self.free  # and an empty store takes whatever fits: nothing in it waits for anybody
        return self.free - self.stair_octets * (STAIRS - min(hops, STAIRS - 1))

    def reserve(self, octets: int) -> bool:
        """Promise room for a bundle that begins to arrive: how far it came is not known yet. False: there is none."""
        if octets > min(self.room(FIRST_HOP), self.free - self.limit // ASIDE):
            return False
        self.reserved += octets
        return True

    def release(self, octets: int) -> None:
        """Take a promise back (the bundle came, or was aborted)."""
        self.reserved = max(0, self.reserved - octets)
