"""Real traffic, made by the project's own node and sessions at run time: no file of old octets can go stale."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from fuzz.repair import repaired
from tumpline.machines.bpa.config import ReportPolicy
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu
from tumpline.machines.plan import Route
from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.testing.lone_node import LoneNode, bundle, whole
from tumpline.testing.pcap import Chunk
from tumpline.testing.tcpcl4 import Pair
from tumpline.wire.bundle7 import (
    MAX_BLOCKS,
    BlockFlags,
    BundleFlags,
    CanonicalBlock,
    bundle_age_block,
    decode_bundle_untrusted,
    encode_bundle,
    hop_count_block,
    previous_node_block,
)
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern
from tumpline.wire.generate import draw_bundle
from tumpline.wire.tcpcl4 import RefusalCode, TerminationCode

_DRAWN_OCTETS_MOST = 400
HERE, FAR = "dtn://here/", "dtn://far/"
_ALL_REPORTS = (
    BundleFlags.REPORT_RECEPTION
    | BundleFlags.REPORT_FORWARDING
    | BundleFlags.REPORT_DELIVERY
    | BundleFlags.REPORT_DELETION
    | BundleFlags.STATUS_TIME
)


@cache
def arrivals() -> tuple[bytes, ...]:
    """Bundles as neighbours send them to the node `dtn://here/`: for it, for others, fragments, with blocks, without clock."""
    blocks = (
        previous_node_block(Eid.parse("ipn:977000.4.0"), 2, 1),
        hop_count_block(30, 3, 3, 2),
        bundle_age_block(1000, 4, 0),
        CanonicalBlock(192, 5, BlockFlags.REPLICATE | BlockFlags.REPORT, 2, b"\x82\x01\x02"),
    )
    asked: dict[str, Any] = {"flags": _ALL_REPORTS, "report_to": "dtn://src/reports"}
    return (
        bundle("dtn://src/app", "dtn://here/service"),
        bundle("dtn://src/app", "dtn://far/files", b"x" * 300, sequence=2, blocks=blocks),
        bundle("dtn://src/app", "dtn://here/service", sequence=3, **asked, blocks=blocks[:2]),
        bundle("ipn:7.1", "ipn:977000.9.3", b"", sequence=4, **asked),
        bundle("dtn://src/app", "dtn://here/service", b"part", sequence=5, fragment=(0, 8)),
        bundle("dtn://src/app", "dtn://here/service", b"part", sequence=5, fragment=(4, 8)),
        bundle("dtn://src/app", "dtn://far/", b"y" * 3000, sequence=6, created_ms=0, blocks=blocks),
    )


@cache
def node_output() -> tuple[bytes, ...]:
    """What the node makes of them: forwarded bundles, fragments for a small neighbour, its own bundles, status reports."""
    node = LoneNode(HERE, reports=ReportPolicy(enabled=True)).start()
    node.machine.add_route(Route(EidPattern.parse("*:**"), Eid.parse(FAR)), 0.0)
    node.path_up(1, "dtn://src/")
    node.path_up(2, FAR, mru_octets=1200)
    node.receive(1, *arrivals())
    node.machine.originate([Adu(Eid.parse(FAR), Octets(b"own"), "app", must_not_fragment=True)], 0.0)
    node.settle()
    return tuple(encode_bundle(whole(unit)) for unit in node.forwarded())


@cache
def crowded() -> bytes:
    """A bundle with as many blocks as it may have: what costs a decoder most."""
    blocks = tuple(CanonicalBlock(200, number, 0, 0, b"") for number in range(2, MAX_BLOCKS + 2))
    return bundle("dtn://src/app", "dtn://far/files", sequence=7, blocks=blocks)


@cache
def drawn() -> tuple[bytes, ...]:
    """Bundles of every form that RFC 9171 allows, short ones: what a mutation does is seen sooner in them."""
    chance = Random(1)
    made = (encode_bundle(draw_bundle(chance, index)) for index in range(200))
    # (What looks like a CRC to `repaired` and is none would be broken by it.)
    return tuple([data for data in made if len(data) < _DRAWN_OCTETS_MOST and repaired(data) == data][:60])


def bundles() -> tuple[bytes, ...]:
    """All of them."""
    return (*arrivals(), *node_output(), crowded(), *drawn())


@cache
def reports() -> tuple[bytes, ...]:
    """The payloads of the administrative bundles among them."""
    decoded = map(decode_bundle_untrusted, (*node_output(), *drawn()))
    return tuple(each.payload for each in decoded if each.primary.flags & BundleFlags.ADMIN)


@cache
def conversations() -> tuple[tuple[Chunk, ...], ...]:
    """What two sessions write while they carry bundles small and large, refuse, keep alive and end."""
    return (
        _converse(SessionConfig(node_id="dtn://passive/"), refuse=False),
        _converse(SessionConfig(node_id="dtn://passive/", segment_mru=40_000, keepalive_s=1), refuse=False),
        _converse(SessionConfig(segment_mru=900), refuse=True),
    )


def _converse(passive: SessionConfig, refuse: bool) -> tuple[Chunk, ...]:
    pair = Pair(SessionConfig(node_id="dtn://active/", keepalive_s=1), passive).connect()
    if refuse:
        pair.passive.decide = lambda started: RefusalCode.NO_RESOURCES if started.transfer % 2 else None
    large = [bundle(HERE, FAR, b"z" * size, sequence=size) for size in (1_000, 120_000)]
    for token, data in enumerate((*arrivals(), *large)):
        pair.active.offer(token, data, pair.now, whole=len(data) < 100_000)
    pair.passive.offer(0, arrivals()[0], pair.now)
    pair.settle()
    pair.advance(3.0)
    pair.active.session.terminate(TerminationCode.UNKNOWN, pair.now)
    pair.settle()
    return tuple(pair.trace)


def streams(from_client: bool) -> list[bytes]:
    """What one side of each conversation wrote, whole."""
    return [
        b"".join(chunk.data for chunk in conversation if chunk.from_client is from_client)
        for conversation in conversations()
    ]
