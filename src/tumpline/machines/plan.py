"""Routes, peers and contacts: what a node is told about the world around it."""

from __future__ import annotations

from typing import NamedTuple

from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern


class Route(NamedTuple):
    """Bundles to `pattern` may go by way of `via`. Among equally specific patterns a lower `priority` number goes first."""

    pattern: EidPattern
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
