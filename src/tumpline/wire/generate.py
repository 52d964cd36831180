"""Random bundles that keep every rule of RFC 9171, and random octets that are no bundles: for trials of whoever takes them.

Chance is handed in, so that the same seed gives the same octets. Bundles are drawn so that every form that the standard
allows turns up among a few hundred: flags, CRC types, schemes and encodings of endpoint IDs, fragments, clockless sources,
extension blocks, status reports, sizes at the edges of CBOR's heads.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from tumpline.wire import bundle7 as b7
from tumpline.wire import cbor
from tumpline.wire.admin import NOT_ASSERTED, Assertion, StatusReport, encode_admin
from tumpline.wire.bundle7 import BlockFlags, BundleFlags
from tumpline.wire.eid import DTN, IPN, NULL, Eid

_T = TypeVar("_T")

BYTES_MOST: Final = 10_000  # of `draw_octets`: up to 10 kB, as the older bundlegen has it
PAYLOAD_MOST: Final = 200_000  # some bundles are too long for any datagram, and for one segment of many peers
_ADU_MOST: Final = 1 << 29  # of which a fragment is cut: Wireshark joins none of 2^31 octets or more, and says so
# RFC 9171 §9.1: "192-255 are reserved for private and/or experimental use".
PRIVATE_BLOCK_TYPES: Final = range(192, 256)

_EDGES: Final = (0, 1, 23, 24, 255, 256, 65_535, 65_536)  # where the CBOR head of a length grows
_WIDE: Final = (*_EDGES, (1 << 32) - 1, 1 << 32)  # the same for numbers that nobody has to allocate
_DAY_MS: Final = 86_400_000
_FROM_MS: Final = 631_152_000_000  # DTN time: from 2020 on ...
_SPAN_MS: Final = 3653 * _DAY_MS  # ... for ten years
_DTN_EIDS: Final = tuple(
    Eid(DTN, f"//{node}/{demux}")
    for node in ("ground", "relay", "rover-7", "moon.base", "n%2Fx", "a")
    for demux in ("", "sink", "files/in", "~group", "a~b", "x" * 60)
)
_REQUESTS: Final = (
    BundleFlags.REPORT_RECEPTION,
    BundleFlags.REPORT_FORWARDING,
    BundleFlags.REPORT_DELIVERY,
    BundleFlags.REPORT_DELETION,
)
_ALWAYS: Final = (BundleFlags.MUST_NOT_FRAGMENT, BundleFlags.ACK_REQUESTED, BundleFlags.STATUS_TIME)
_BLOCK_FLAGS: Final = (BlockFlags.REPLICATE, BlockFlags.DELETE_BUNDLE, BlockFlags.DISCARD)
_BLOCK_NUMBERS: Final = (*range(2, 30), 255, 256, 65_536, (1 << 64) - 1)
_REASONS: Final = range(b7.ReasonCode.BLOCK_UNSUPPORTED + 1)  # RFC 9171 §9.5


class Chance(Protocol):
    """What `random.Random` has of it."""

    def random(self) -> float:
        """[0, 1)."""

    def randbytes(self, n: int) -> bytes:
        """`n` octets."""


def below(chance: Chance, stop: int) -> int:
    """0 <= n < stop, which is at most 2^53."""
    return int(chance.random() * stop)


def one_of(chance: Chance, of: Sequence[_T]) -> _T:
    """Any of these."""
    return of[int(chance.random() * len(of))]


# ---- bundles ---------------------------------------------------------------------------------------------------------


def draw_bundle(chance: Chance, index: int) -> b7.Bundle:
    """A bundle that every strict receiver must take. No two with different `index` (below 2^32) have one identity."""
    flags = _some(chance, _ALWAYS)
    if chance.random() < 0.15:
        return _admin_bundle(chance, index, flags)
    source = NULL if chance.random() < 0.1 else _node_eid(chance)
    payload = chance.randbytes(_payload_octets(chance))
    if source is NULL:
        # RFC 9171 §4.2.3: an anonymous bundle "MUST NOT" be fragmented, nor ask for reports.
        return _assembled(chance, index, flags | BundleFlags.MUST_NOT_FRAGMENT, source, payload)
    flags |= _some(chance, _REQUESTS)
    if chance.random() < 0.25:
        return _fragment(chance, index, flags, source, payload)
    return _assembled(chance, index, flags, source, payload)


def draw_status_report(chance: Chance) -> StatusReport:
    """A report with any of its four assertions, timed or not, on a bundle or on a fragment (RFC 9171 §6.1.1)."""
    timed = chance.random() < 0.5  # one flag of the subject asks for all times or none
    received, forwarded, delivered, deleted = (_assertion(chance, timed) for _ in range(4))
    fragment = (None, None) if chance.random() < 0.7 else (_number(chance), _number(chance))
    created_ms, sequence = _created_ms(chance), _number(chance)
    reason, source = one_of(chance, _REASONS), _node_eid(chance)
    return StatusReport(received, forwarded, delivered, deleted, reason, source, created_ms, sequence, *fragment)


def draw_eid(chance: Chance) -> Eid:
    """Where a bundle may be sent to: a service or an administrative endpoint, in dtn also a group."""
    if chance.random() < 0.5:
        return one_of(chance, _DTN_EIDS)
    return _ipn_eid(chance)


def _admin_bundle(chance: Chance, index: int, flags: int) -> b7.Bundle:
    """RFC 9171 §4.2.3: with an administrative record, "all status report request flag values MUST be zero"."""
    record = encode_admin(draw_status_report(chance))
    return _assembled(chance, index, flags | BundleFlags.ADMIN, _node_id(chance), record)


def _fragment(chance: Chance, index: int, flags: int, source: Eid, payload: bytes) -> b7.Bundle:
    """A fragment from the beginning, the middle or the end of its ADU; also one that is all of it."""
    offset = one_of(chance, (0, 1, 65_536, below(chance, _ADU_MOST)))
    total = offset + len(payload) + one_of(chance, (0, 1, below(chance, _ADU_MOST)))
    flags = flags & ~BundleFlags.MUST_NOT_FRAGMENT | BundleFlags.IS_FRAGMENT
    return _assembled(chance, index, flags, source, payload, offset, total)


def _assembled(
    chance: Chance,
    index: int,
    flags: int,
    source: Eid,
    payload: bytes,
    offset: int | None = None,
    total: int | None = None,
) -> b7.Bundle:
    """With times, extension blocks and CRCs."""
    created_ms = _created_ms(chance)
    # RFC 9171 §4.2.4: a block of an administrative record or an anonymous bundle asks for no report either.
    may_report = source is not NULL and not flags & BundleFlags.ADMIN
    primary = b7.PrimaryBlock(
        flags,
        one_of(chance, (1, 2)),  # RFC 9171 §4.3.1: the primary block has a CRC, for no BIB covers it
        draw_eid(chance),
        source,
        one_of(chance, (NULL, source, draw_eid(chance))),
        created_ms,
        index + one_of(chance, (0, 0, 1 << 32, 1 << 63)),
        one_of(chance, (*_WIDE, _DAY_MS, below(chance, 1000 * _DAY_MS))),
        offset,
        total,
    )
    blocks = _blocks(chance, not created_ms, may_report)
    return b7.Bundle(primary, blocks, payload, _block_flags(chance, may_report), one_of(chance, (0, 1, 2)))


def _blocks(chance: Chance, clockless: bool, may_report: bool) -> tuple[b7.CanonicalBlock, ...]:
    """RFC 9171 §4.4: Previous Node, Bundle Age and Hop Count at most once; and blocks of private types."""
    wanted = [kind for kind in (6, 7, 10) if chance.random() < 0.3]
    if clockless and b7.BlockType.BUNDLE_AGE not in wanted:
        wanted.append(b7.BlockType.BUNDLE_AGE)  # RFC 9171 §4.4.2: without a creation time it MUST be there
    wanted += [one_of(chance, PRIVATE_BLOCK_TYPES) for _ in range(one_of(chance, (0, 0, 0, 1, 2)))]
    if not wanted:
        return ()
    if chance.random() < 0.5:
        wanted.reverse()
    first = below(chance, len(_BLOCK_NUMBERS))
    numbers = [_BLOCK_NUMBERS[(first + step) % len(_BLOCK_NUMBERS)] for step in range(len(wanted))]
    if chance.random() < 0.5:
        numbers.reverse()
    return tuple(
        b7.CanonicalBlock(
            kind, number, _block_flags(chance, may_report), one_of(chance, (0, 1, 2)), _data(chance, kind)
        )
        for kind, number in zip(wanted, numbers, strict=True)
    )


def _data(chance: Chance, kind: int) -> bytes:
    """Block-type-specific data as RFC 9171 §4.4 has it; of a private type, any CBOR item."""
    if kind == b7.BlockType.PREVIOUS_NODE:
        return _node_id(chance).encoded
    if kind == b7.BlockType.BUNDLE_AGE:
        return cbor.encode_uint(_number(chance))
    if kind == b7.BlockType.HOP_COUNT:
        limit = 1 + below(chance, b7.MAX_HOPS)
        return b"\x82" + cbor.encode_uint(limit) + cbor.encode_uint(below(chance, limit + 1))
    return draw_item(chance)


def _block_flags(chance: Chance, may_report: bool) -> int:
    report = BlockFlags.REPORT if may_report and chance.random() < 0.2 else 0
    return _some(chance, _BLOCK_FLAGS) | report


def _assertion(chance: Chance, timed: bool) -> Assertion:
    if chance.random() < 0.5:
        return NOT_ASSERTED
    return Assertion(True, _created_ms(chance) if timed else None)


# ---- endpoints and numbers -------------------------------------------------------------------------------------------


def _ipn_eid(chance: Chance, service: int | None = None) -> Eid:
    """RFC 9758 §6.1: in two or in three elements; the default allocator's usually in two."""
    allocator = one_of(chance, (0, 0, 977_000, (1 << 32) - 1))
    node = one_of(chance, (1, 23, 24, 4_000_000_000, 1 + below(chance, 1 << 16)))
    eid = Eid(IPN, (allocator, node, _number(chance) if service is None else service))
    return eid.two_element() if chance.random() < 0.3 else eid


def _node_eid(chance: Chance) -> Eid:
    """RFC 9171 §4.2.5.2: a source is a singleton."""
    eid = draw_eid(chance)
    return eid if eid.is_singleton else eid.node


def _node_id(chance: Chance) -> Eid:
    """RFC 9171 §4.4.1: the node ID of the forwarder."""
    return _node_eid(chance).node if chance.random() < 0.5 else _ipn_eid(chance, 0)


def _created_ms(chance: Chance) -> int:
    """Zero for a source without a clock."""
    return 0 if chance.random() < 0.2 else _FROM_MS + below(chance, _SPAN_MS)


def _number(chance: Chance) -> int:
    return one_of(chance, _WIDE) if chance.random() < 0.5 else below(chance, 1 << 16)


def _payload_octets(chance: Chance) -> int:
    """Mostly a few hundred octets; one of a hundred bundles is large."""
    kind = chance.random()
    if kind < 0.1:
        return one_of(chance, _EDGES)
    if kind < 0.9:
        return below(chance, 1000)
    return 1000 + below(chance, PAYLOAD_MOST if kind > 0.99 else 10_000)


def _some(chance: Chance, bits: Sequence[int]) -> int:
    return sum(bit for bit in bits if chance.random() < 0.3)


# ---- octets that are no bundle ---------------------------------------------------------------------------------------


def draw_item(chance: Chance, depth: int = 3) -> bytes:
    """One well-formed CBOR item in deterministic encoding, of any major type, nested at most so deep.

    Maps have one key each: of several, their order would have to be that of their octets (RFC 8949 §4.2.1)."""
    major = below(chance, 8)
    if major in (4, 5, 6) and not depth:
        major = 0
    if major < 2:
        return cbor.encode_head(major, one_of(chance, (*_WIDE, (1 << 64) - 1)))
    if major == 2:
        return cbor.encode_bytes(chance.randbytes(below(chance, 300)))
    if major == 3:
        text = "".join(one_of(chance, "aZ0 ~é中\U0001f680") for _ in range(below(chance, 40))).encode()
        return cbor.encode_head(3, len(text)) + text
    if major == 4:
        items = [draw_item(chance, depth - 1) for _ in range(below(chance, 5))]
        return cbor.encode_head(4, len(items)) + b"".join(items)
    if major == 5:
        pairs = below(chance, 2)
        return cbor.encode_head(5, pairs) + b"".join(draw_item(chance, depth - 1) for _ in range(2 * pairs))
    if major == 6:
        return cbor.encode_head(6, one_of(chance, _UNREGISTERED_TAGS)) + draw_item(chance, depth - 1)
    return one_of(chance, (b"\xf4", b"\xf5", b"\xf6", b"\xf7", b"\xfb" + struct.pack(">d", 0.1 + chance.random())))


# Tags without a meaning: the content of those that have one must fit it.
_UNREGISTERED_TAGS: Final = (65_000, 1 << 33)


def draw_octets(chance: Chance, least: int = 0) -> bytes:
    """Octets without any form: `least` to 10,000."""
    return chance.randbytes(least + below(chance, BYTES_MOST + 1 - least))
