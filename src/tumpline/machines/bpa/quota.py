"""How many octets the node keeps, and how many it has promised to take."""

from __future__ import annotations

# One eighth of the room is never promised to bundles that have only begun to arrive: peers that announce much and send
# little would otherwise keep out everyone's small bundles for as long as they like.
ASIDE = 8


class Quota:
    """Octets held in the store (or on their way into it) and reserved for bundles that are arriving."""

    __slots__ = ("held", "limit", "reserved")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.reserved = 0

    @property
    def free(self) -> int:
        """Octets that may still be taken; negative after the limit was lowered below what is held."""
        return self.limit - self.held - self.reserved

    def reserve(self, octets: int) -> bool:
        """Promise room for a bundle that begins to arrive. False: there is none."""
        if octets > self.free - self.limit // ASIDE:
            return False
        self.reserved += octets
        return True

    def release(self, octets: int) -> None:
        """Take a promise back (the bundle came, or was aborted)."""
        self.reserved = max(0, self.reserved - octets)
