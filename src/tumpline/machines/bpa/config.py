"""What a node's machine is told once, when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from tumpline.wire.bundle7 import STRICT, Strictness
from tumpline.wire.eid import Eid


@dataclass(frozen=True, slots=True)
class ReportPolicy:
    """Bundle status reports (RFC 9171 §5.1: disabled by default, as they can flood a network)."""

    enabled: bool = False
    per_s: float = 10.0  # reports that leave a second, on average; the rest is counted and dropped
    burst: int = 100
    lifetime_ms: int = 86_400_000


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything a `NodeMachine` is configured with, apart from what can change while it runs (routes, contacts, peers)."""

    node_id: Eid  # the primary node ID: previous node, reports and local sources carry it
    aliases: tuple[Eid, ...] = ()  # further node IDs of this node
    quota_octets: int = 10 << 30  # stored and reserved together
    identities_per_source: int = (
        1_000_000  # delivered bundles remembered until they expire; at the cap new ones are refused
    )
    window_bundles: int = 4096  # bundles a path or service may have under way, and as many again waiting in memory
    window_octets: int = 64 << 20  # and their octets (at least one bundle whatever its size)
    previous_node: bool = True  # insert Previous Node blocks when forwarding
    fragment: bool = True  # cut what a neighbour cannot take whole, where the bundle allows it
    reports: ReportPolicy = field(default_factory=ReportPolicy)
    strictness: Strictness = STRICT  # what is demanded of the encoding of bundles from others
    hop_limit: int = 32  # of local ADUs that ask for no other (RFC 9171 §4.4.3); 0: no Hop Count block
    known_blocks: frozenset[int] = frozenset()  # extension block types that others of this node process (BPSec, ...)
    retry_s_min: float = (
        1.0  # back-off of a path that refused or lost a bundle, and of a store that failed: from here ...
    )
    retry_s_max: float = 60.0  # ... doubling to here
    forget_s: float = 10.0  # between sweeps of remembered identities whose time is over
    max_lifetime_ms: int | None = (
        None  # RFC 9171 §5.5: a shorter lifetime imposed on what is kept here ("traffic pared")
    )
    trace_bundles: bool = False  # one Notice for each bundle received, forwarded and delivered
