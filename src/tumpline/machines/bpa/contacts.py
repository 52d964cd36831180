"""When neighbours can be reached: contact windows, dialling, and how much a window still carries."""

from __future__ import annotations

from typing import Any, NamedTuple

from tumpline.machines.bpa.core import Core
from tumpline.machines.effects import Connect, Disconnect
from tumpline.machines.plan import FOREVER_MS, Contact, Peer, Window, check_contact, window
from tumpline.wire.eid import Eid


class Opening(NamedTuple):
    """A contact whose window is open."""

    contact: Contact
    window: Window


class Reach(NamedTuple):
    """How a neighbour can be reached over one link: not at all, or until `end_ms` with `rate_bps` (None: not limited)."""

    is_open: bool
    rate_bps: int | None = None
    end_ms: int = FOREVER_MS


ALWAYS = Reach(True)
NEVER = Reach(False)


class Contacts:
    """The contacts of all neighbours, and the addresses that are being dialled because of them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._contacts: dict[Eid, list[Contact]] = {}
        self._peers: list[Peer] = []
        self._dialled: set[Peer] = set()

    # ---- what the plan says -----------------------------------------------------------------------------------------

    def add(self, contact: Contact) -> None:
        """Raises ConfigError if it cannot be read."""
        check_contact(contact)
        mine = self._contacts.setdefault(contact.peer.node, [])
        if contact not in mine:
            mine.append(contact)

    def remove(self, contact: Contact) -> bool:
        """Returns whether it was there. A peer without contacts left is reachable at any time."""
        mine = self._contacts.get(contact.peer.node, [])
        if contact not in mine:
            return False
        mine.remove(contact)
        if not mine:
            del self._contacts[contact.peer.node]
        return True

    def add_peer(self, peer: Peer) -> None:
        if peer not in self._peers:
            self._peers.append(peer)

    def remove_peer(self, peer: Peer) -> bool:
        """Returns whether it was there."""
        if peer not in self._peers:
            return False
        self._peers.remove(peer)
        return True

    def remove_link(self, link: str) -> None:
        self._peers = [peer for peer in self._peers if peer.link != link]

    def peer_at(self, link: str, address: str) -> Eid | None:
        """Who is configured to be at this address."""
        for peer in self._peers:
            if peer.link == link and peer.address == address:
                return peer.id
        return None

    # ---- what that means now ------------------------------------------------------------------------------------------

    def reach(self, node: Eid, link: str, now: float) -> Reach:
        """How the neighbour can be reached over this link now; of several open contacts the fastest counts."""
        contacts = self._contacts.get(node)
        if contacts is None:
            return ALWAYS
        now_ms = self._core.clock.ms(now)
        best = NEVER
        for contact in contacts:
            span = window(contact, now_ms) if contact.link in (None, link) else None
            if span is not None and span.start_ms <= now_ms:
                best = _better(best, Reach(True, contact.rate_bps, span.end_ms))
        return best

    def dial(self, now: float) -> None:
        """Begin and end dialling as the windows have it."""
        wanted = {peer for peer in self._peers if peer.id is None or self.reach(peer.id.node, peer.link, now).is_open}
        for peer in self._peers:
            if peer in wanted and peer not in self._dialled:
                self._core.effects.append(Connect(peer.link, peer.address, peer.id))
        for peer in sorted(self._dialled - wanted, key=str):
            reason = "contact ended" if peer in self._peers else "peer removed"
            self._core.effects.append(Disconnect(peer.link, peer.address, None, reason))
        self._dialled = wanted

    def next_change(self, now: float) -> float | None:
        """When a window opens or closes next (the caller's seconds)."""
        now_ms = self._core.clock.ms(now)
        spans = [span for mine in self._contacts.values() for each in mine if (span := window(each, now_ms))]
        changes = [span.start_ms if span.start_ms > now_ms else span.end_ms for span in spans]
        earliest = min((each for each in changes if each < FOREVER_MS), default=None)
        return None if earliest is None else self._core.clock.monotonic(earliest)

    # ---- for people ---------------------------------------------------------------------------------------------------

    def snapshot(self, now: float) -> list[dict[str, Any]]:
        now_ms = self._core.clock.ms(now)
        found = []
        for mine in self._contacts.values():
            for contact in mine:
                span = window(contact, now_ms)
                found.append(
                    {
                        "peer": str(contact.peer),
                        "link": contact.link,
                        "rate_bps": contact.rate_bps,
                        "cron": contact.cron,
                        "start_ms": None if span is None else span.start_ms,
                        "end_ms": None if span is None or span.end_ms >= FOREVER_MS else span.end_ms,
                        "open": span is not None and span.start_ms <= now_ms,
                    }
                )
        return found


def _better(one: Reach, other: Reach) -> Reach:
    """The faster one; of equally fast ones the one that lasts longer."""
    if not one.is_open:
        return other

    def worth(reach: Reach) -> tuple[float, int]:
        return (float("inf") if reach.rate_bps is None else reach.rate_bps), reach.end_ms

    return max(one, other, key=worth)
