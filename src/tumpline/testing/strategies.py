"""Hypothesis strategies for what travels: EIDs, patterns, blocks, bundles, fragments, administrative records.

All that they draw keeps the rules of RFC 9171 (so `STRICT` accepts it), with sizes at the edges of CBOR's heads.
"""

from __future__ import annotations

from hypothesis import strategies as st

from tumpline.wire import bundle7 as b7
from tumpline.wire import cbor
from tumpline.wire.admin import Assertion, StatusReport, UnknownRecord
from tumpline.wire.bundle7 import BlockFlags, BlockType, BundleFlags
from tumpline.wire.eid import IPN, NULL, Eid
from tumpline.wire.eid_pattern import EidPattern

_EDGES = [edge for bits in (8, 16, 32) for edge in (2**bits - 1, 2**bits)]


def uints(bits: int = 64) -> st.SearchStrategy[int]:
    """Numbers below 2^bits, often where the CBOR head grows."""
    top = (1 << bits) - 1
    return st.sampled_from([0, 23, 24, *(edge for edge in _EDGES if edge <= top), top]) | st.integers(0, top)


# ---- endpoints -------------------------------------------------------------------------------------------------------

_NODE_NAMES = st.text("abcxyzABZ019-._~!$&'()*+,;=", min_size=1, max_size=30) | st.just("n%2Fx")
_DEMUXES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40)


def dtn_eids() -> st.SearchStrategy[Eid]:
    """EIDs of scheme dtn but dtn:none; groups among them."""
    return st.builds(lambda node, demux: Eid.parse(f"dtn://{node}/{demux}"), _NODE_NAMES, _DEMUXES)


def ipn_eids() -> st.SearchStrategy[Eid]:
    """EIDs of scheme ipn but the null and the local ones, some in the two-element encoding."""
    nodes = st.integers(1, 2**32 - 2)
    eids = st.builds(lambda *ssp: Eid(IPN, ssp), uints(32), nodes, uints(64))
    return eids | eids.map(Eid.two_element)


def opaque_eids() -> st.SearchStrategy[Eid]:
    """EIDs of schemes that are not known."""
    ssps = st.recursive(
        uints() | st.text(max_size=8) | st.binary(max_size=8) | st.booleans(), lambda inner: st.lists(inner, max_size=3)
    )
    return st.builds(lambda scheme, ssp: Eid(scheme, cbor.encode_item(ssp)), st.integers(3, 2**64 - 1), ssps)


def eids() -> st.SearchStrategy[Eid]:
    """All that may stand in a bundle."""
    return dtn_eids() | ipn_eids() | opaque_eids() | st.just(NULL) | st.just(Eid.parse("ipn:0.0"))


def node_ids() -> st.SearchStrategy[Eid]:
    """What may be a source that is not anonymous."""
    return (dtn_eids() | ipn_eids()).filter(lambda eid: eid.is_singleton)


def _ipn_parts(bits: int) -> st.SearchStrategy[str]:
    number = uints(bits)
    pairs = st.tuples(number, number).map(lambda pair: f"{pair[0]}-{pair[1]}")
    intervals = st.lists(number.map(str) | pairs | number.map("{}+".format), min_size=1, max_size=10)
    return st.just("*") | number.map(str) | intervals.map(lambda parts: f"[{','.join(parts)}]")


def eid_patterns() -> st.SearchStrategy[EidPattern]:
    """EID patterns of one to four items, the empty one, and everything."""
    ipn = st.builds("ipn:{}.{}.{}".format, _ipn_parts(32), _ipn_parts(32), _ipn_parts(64))
    dtn = dtn_eids().map(str).filter(lambda text: "|" not in text and not text.endswith("**"))
    below = st.sampled_from(["dtn://a/**", "dtn://a/b/**", "dtn://c~/x**"])
    item = ipn | dtn | below | st.sampled_from(["dtn:**", "ipn:**", "99:**", "foo:**", "[2,77]:**"])
    texts = st.lists(item, max_size=4).map("|".join) | st.just("*:**")
    return texts.map(EidPattern.parse)


# ---- bundles ---------------------------------------------------------------------------------------------------------

_REPORTS = [
    BundleFlags.REPORT_RECEPTION,
    BundleFlags.REPORT_FORWARDING,
    BundleFlags.REPORT_DELIVERY,
    BundleFlags.REPORT_DELETION,
]
_HARMLESS = [BundleFlags.MUST_NOT_FRAGMENT, BundleFlags.ACK_REQUESTED, BundleFlags.STATUS_TIME, 1 << 21, 1 << 63]


def _any_of(bits: list[int]) -> st.SearchStrategy[int]:
    return st.sets(st.sampled_from(bits)).map(sum)


def crc_types(*, none: bool = True) -> st.SearchStrategy[int]:
    return st.sampled_from([0, 1, 2] if none else [1, 2])


@st.composite
def primary_blocks(draw: st.DrawFn, fragment: bool | None = None, created_ms: int | None = None) -> b7.PrimaryBlock:
    """Primary blocks with a CRC, whose flags keep RFC 9171 §4.2.3: anonymous ones, records and (`fragment`) fragments."""
    anonymous = fragment is not True and draw(st.integers(0, 5)) == 0
    admin = draw(st.integers(0, 5)) == 0
    flags = draw(_any_of(_HARMLESS)) | (BundleFlags.ADMIN if admin else 0)
    if anonymous:
        flags |= BundleFlags.MUST_NOT_FRAGMENT
    elif not admin:
        flags |= draw(_any_of(_REPORTS))
    total = None
    if not anonymous and (draw(st.booleans()) if fragment is None else fragment):
        flags = flags & ~BundleFlags.MUST_NOT_FRAGMENT | BundleFlags.IS_FRAGMENT
        total = draw(uints(63))
    return b7.PrimaryBlock(
        flags,
        draw(crc_types(none=False)),
        draw(eids()),
        draw(st.sampled_from([NULL, Eid.parse("ipn:0.0")]) if anonymous else node_ids()),
        draw(eids()),
        draw(st.integers(1, 2**64 - 1)) if created_ms is None else created_ms,
        draw(uints()),
        draw(uints()),
        None if total is None else draw(st.integers(0, total)),
        total,
    )


def _blocks_of(number: int, flags: int, crc_type: int) -> st.SearchStrategy[b7.CanonicalBlock]:
    others = st.integers(13, 191) | st.integers(192, 2**64 - 1) | st.sampled_from([0, 2, 11, 12])
    return st.one_of(
        node_ids().map(lambda eid: b7.previous_node_block(eid, number, crc_type, flags)),
        uints().map(lambda age_ms: b7.bundle_age_block(age_ms, number, crc_type, flags)),
        st.builds(
            lambda limit, count: b7.hop_count_block(limit, count, number, crc_type, flags), st.integers(1, 255), uints()
        ),
        st.builds(lambda kind, data: b7.CanonicalBlock(kind, number, flags, crc_type, data), others, st.binary()),
    )


@st.composite
def extension_blocks(draw: st.DrawFn, report: bool = True, most: int = 4) -> tuple[b7.CanonicalBlock, ...]:
    """Extension blocks with different numbers, those of RFC 9171 §4.4 at most once; `report`: may ask for reports."""
    flags = [BlockFlags.REPLICATE, BlockFlags.DELETE_BUNDLE, BlockFlags.DISCARD, 1 << 7, 1 << 40]
    blocks: dict[int, b7.CanonicalBlock] = {}
    for number in draw(st.lists(st.integers(2, 40) | st.integers(2, 2**64 - 1), unique=True, max_size=most)):
        wanted = draw(_any_of([*flags, BlockFlags.REPORT] if report else flags))
        block = draw(_blocks_of(number, wanted, draw(crc_types())))
        blocks[block.type if block.type <= BlockType.HOP_COUNT else -number] = block
    return tuple(blocks.values())


def _bundle(draw: st.DrawFn, primary: b7.PrimaryBlock, payload: bytes) -> b7.Bundle:
    may_report = not primary.source.is_null and not primary.flags & BundleFlags.ADMIN
    blocks = draw(extension_blocks(report=may_report))
    payload_flags = draw(_any_of([BlockFlags.REPLICATE, BlockFlags.DELETE_BUNDLE, 1 << 20]))
    return b7.Bundle(primary, blocks, payload, payload_flags, draw(crc_types()))


def _payloads() -> st.SearchStrategy[bytes]:
    return st.binary() | st.sampled_from([23, 24, 255, 256, 65535, 65536]).map(bytes)


@st.composite
def bundles(draw: st.DrawFn) -> b7.Bundle:
    """Bundles that are no fragments."""
    return _bundle(draw, draw(primary_blocks(fragment=False)), draw(_payloads()))


@st.composite
def fragments(draw: st.DrawFn) -> b7.Bundle:
    """Fragments whose payload lies within their ADU."""
    primary, payload = draw(primary_blocks(fragment=True)), draw(_payloads())
    assert primary.fragment_offset is not None
    assert primary.total_adu_length is not None
    total = max(primary.total_adu_length, primary.fragment_offset + len(payload))
    return _bundle(draw, primary._replace(total_adu_length=total), payload)


@st.composite
def clockless_bundles(draw: st.DrawFn) -> b7.Bundle:
    """Bundles of a source without a clock: creation time zero, and so a Bundle Age block (RFC 9171 §4.4.2)."""
    bundle = _bundle(draw, draw(primary_blocks(fragment=False, created_ms=0)), draw(st.binary()))
    kept = tuple(block for block in bundle.blocks if block.type != BlockType.BUNDLE_AGE)
    number = 2 + max((block.number for block in kept if block.number < 2**63), default=0)
    age = b7.bundle_age_block(draw(uints()), number, draw(crc_types()))
    return bundle._replace(blocks=(*(block for block in kept if block.number != number), age))


def all_bundles() -> st.SearchStrategy[b7.Bundle]:
    """Every kind of bundle that STRICT accepts."""
    return bundles() | fragments() | clockless_bundles()


# ---- administrative records ------------------------------------------------------------------------------------------


def assertions() -> st.SearchStrategy[Assertion]:
    timed = uints().map(lambda time_ms: Assertion(True, time_ms))
    return st.sampled_from([Assertion(False), Assertion(True)]) | timed


@st.composite
def status_reports(draw: st.DrawFn) -> StatusReport:
    """Status reports, on fragments too."""
    states = [draw(assertions()) for _ in range(4)]
    fragment = (draw(uints()), draw(uints())) if draw(st.booleans()) else (None, None)
    return StatusReport(
        states[0], states[1], states[2], states[3], draw(uints()), draw(eids()), draw(uints()), draw(uints()), *fragment
    )


def admin_records() -> st.SearchStrategy[StatusReport | UnknownRecord]:
    """Status reports and records of types that nobody registers."""
    content = st.binary(max_size=20).map(cbor.encode_bytes)
    return status_reports() | st.builds(UnknownRecord, st.integers(64512, 65535), content)
