"""Routes, peers and contacts: what a node is told about the world around it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Protocol

from tumpline.machines.cron import Cron
from tumpline.wire.eid import Eid


class Pattern(Protocol):
    """Which destinations are meant; `str` shows it to people. Commands and configurations have `EidPattern`s."""

    @property
    def specificity(self) -> tuple[int, int]:
        """The greater, the fewer."""

    def matches(self, eid: Eid) -> bool:
        """Whether this destination is."""


class Route(NamedTuple):
    """Bundles to `pattern` may go by way of `via`. Among equally specific patterns a lower `priority` number goes first."""

    pattern: Pattern
    via: Eid
    priority: int = 10
    name: str = ""


class Peer(NamedTuple):
    """A neighbour's address on a link: to be dialled, or (links without sessions) to be sent to. `id` None: not known yet."""

    id: Eid | None
    link: str
    address: str
    aliases: tuple[Eid, ...] = ()  # further node IDs of the same neighbour


class Contact(NamedTuple):
    """When a peer can be reached. A peer with any contact is reachable inside its windows only.

    Windows: from `start_ms` (DTN time; None: since ever) for `duration_ms` (None: without end); or with `cron`, one window
    of `duration_ms` from each minute (UTC) that the expression names.
    """

    peer: Eid
    start_ms: int | None = None
    duration_ms: int | None = None
    rate_bps: int | None = None  # bits a second; None: not limited
    cron: str | None = None
    link: str | None = None  # reachable over this link only; None: over any


FOREVER_MS = 1 << 62


class Window(NamedTuple):
    """One time during which a contact is there: from `start_ms` until before `end_ms`."""

    start_ms: int
    end_ms: int


@lru_cache(maxsize=1024)
def _cron(text: str) -> Cron:
    return Cron.parse(text)


def check_contact(contact: Contact) -> None:
    """Raises ConfigError if its cron expression cannot be read."""
    if contact.cron is not None:
        _cron(contact.cron)


def window(contact: Contact, at_ms: int) -> Window | None:
    """The window that is open at `at_ms`, else the next one, else None."""
    if contact.cron is not None:
        duration_ms = contact.duration_ms or 0
        start_ms = _cron(contact.cron).next(at_ms - duration_ms + 1)
        return None if start_ms is None or not duration_ms else Window(start_ms, start_ms + duration_ms)
    start_ms = 0 if contact.start_ms is None else contact.start_ms
    end_ms = FOREVER_MS if contact.duration_ms is None else start_ms + contact.duration_ms
    return Window(start_ms, end_ms) if end_ms > at_ms else None
