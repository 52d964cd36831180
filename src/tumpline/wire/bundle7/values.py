"""The values of a BPv7 bundle (RFC 9171 §4) and the numbers of its registries (§9)."""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire import cbor
from tumpline.wire.eid import Eid

VERSION: Final = 7

# A head is everything before the payload's octets. It is held in memory while a payload is not, so it is bounded: room
# for a few blocks with certificates and signatures.
MAX_HEAD_OCTETS: Final = 64 * 1024
# A block takes at least seven octets, so ten thousand would fit: 50 ms and 2 MB to decode what comes in half a millisecond.
# The blocks that are registered today are twelve.
MAX_BLOCKS: Final = 256


class BundleFlags:
    """Bundle processing control flags (RFC 9171 §4.2.3)."""

    IS_FRAGMENT: Final = 0x000001
    ADMIN: Final = 0x000002
    MUST_NOT_FRAGMENT: Final = 0x000004
    ACK_REQUESTED: Final = 0x000020
    STATUS_TIME: Final = 0x000040
    REPORT_RECEPTION: Final = 0x004000
    REPORT_FORWARDING: Final = 0x010000
    REPORT_DELIVERY: Final = 0x020000
    REPORT_DELETION: Final = 0x040000
    REPORTS: Final = REPORT_RECEPTION | REPORT_FORWARDING | REPORT_DELIVERY | REPORT_DELETION


class BlockFlags:
    """Block processing control flags (RFC 9171 §4.2.4): what to do where the block cannot be processed."""

    REPLICATE: Final = 0x01  # must be in every fragment
    REPORT: Final = 0x02
    DELETE_BUNDLE: Final = 0x04
    DISCARD: Final = 0x10


class BlockType:
    """Bundle block types (RFC 9171 §9.1, RFC 9172 §11.1)."""

    PAYLOAD: Final = 1
    PREVIOUS_NODE: Final = 6
    BUNDLE_AGE: Final = 7
    HOP_COUNT: Final = 10
    BLOCK_INTEGRITY: Final = 11
    BLOCK_CONFIDENTIALITY: Final = 12


class ReasonCode:
    """Bundle status report reason codes (RFC 9171 §9.5, RFC 9172 §11.2)."""

    NO_INFORMATION: Final = 0
    LIFETIME_EXPIRED: Final = 1
    FORWARDED_UNIDIRECTIONAL: Final = 2
    TRANSMISSION_CANCELED: Final = 3
    DEPLETED_STORAGE: Final = 4
    DESTINATION_UNAVAILABLE: Final = 5
    NO_ROUTE: Final = 6
    NO_TIMELY_CONTACT: Final = 7
    BLOCK_UNINTELLIGIBLE: Final = 8
    HOP_LIMIT_EXCEEDED: Final = 9
    TRAFFIC_PARED: Final = 10
    BLOCK_UNSUPPORTED: Final = 11
    MISSING_SECURITY: Final = 12
    UNKNOWN_SECURITY: Final = 13
    UNEXPECTED_SECURITY: Final = 14
    FAILED_SECURITY: Final = 15
    CONFLICTING_SECURITY: Final = 16


class PrimaryBlock(NamedTuple):
    """RFC 9171 §4.3.1. The last two are there if and only if `flags` has IS_FRAGMENT."""

    flags: int
    crc_type: int
    destination: Eid
    source: Eid
    report_to: Eid
    created_ms: int  # DTN time; 0 where the source has no clock
    sequence: int
    lifetime_ms: int
    fragment_offset: int | None = None
    total_adu_length: int | None = None


class CanonicalBlock(NamedTuple):
    """An extension block (RFC 9171 §4.3.2); `data` is the content of its byte string."""

    type: int
    number: int
    flags: int
    crc_type: int
    data: bytes


class Bundle(NamedTuple):
    """A whole bundle; `blocks` are its extension blocks in the order in which they stand."""

    primary: PrimaryBlock
    blocks: tuple[CanonicalBlock, ...]
    payload: bytes
    payload_flags: int = 0
    payload_crc_type: int = 2


class BundleHead(NamedTuple):
    """All of a bundle but its payload's octets and what comes behind them."""

    primary: PrimaryBlock
    blocks: tuple[CanonicalBlock, ...]
    payload_flags: int
    payload_crc_type: int
    payload_offset: int  # octets of the bundle before the payload's data
    payload_length: int
    primary_octets: bytes  # as received: RFC 9171 §4.3.1 makes the primary block immutable
    payload_prefix: bytes  # the payload block up to its data, which its CRC covers too


class BundleId(NamedTuple):
    """What tells a bundle from all others (RFC 9171 §4.3.1, creation timestamp). The last two are a fragment's."""

    source: Eid
    created_ms: int
    sequence: int
    fragment_offset: int | None = None
    payload_length: int | None = None

    @property
    def adu_key(self) -> bytes:
        """Octets that all fragments of one ADU share, and no other."""
        return self.source.canonical + cbor.encode_uint(self.created_ms) + cbor.encode_uint(self.sequence)

    @property
    def key(self) -> bytes:
        """Octets that this bundle has alone: CBOR items one after the other, so no key is the start of a longer one's
        meaning."""
        if self.fragment_offset is None or self.payload_length is None:
            return self.adu_key
        return self.adu_key + cbor.encode_uint(self.fragment_offset) + cbor.encode_uint(self.payload_length)

    def __str__(self) -> str:
        text = f"{self.source}@{self.created_ms}-{self.sequence}"
        return text if self.fragment_offset is None else f"{text}-{self.fragment_offset}-{self.payload_length}"

    @classmethod
    def parse(cls, text: str) -> BundleId:
        """The identity that `str()` wrote. Raises MalformedError."""
        source, _, numbers = text.rpartition("@")
        parts = numbers.split("-")
        if not source or len(parts) not in (2, 4) or not all(part.isdecimal() and len(part) < 21 for part in parts):
            raise MalformedError(f"{text[:80]!r} is no bundle identity: write SOURCE@CREATED-SEQUENCE[-OFFSET-LENGTH]")
        return cls(Eid.parse(source), *map(int, parts))


def bundle_id(primary: PrimaryBlock, payload_length: int) -> BundleId:
    """The identity of the bundle with this primary block and so many octets of payload."""
    if primary.fragment_offset is None:
        return BundleId(primary.source, primary.created_ms, primary.sequence)
    return BundleId(primary.source, primary.created_ms, primary.sequence, primary.fragment_offset, payload_length)


class Strictness(NamedTuple):
    """Which rules a received bundle must keep. Each is a switch; CRCs and the bounds are always verified."""

    canonical: bool = True  # shortest heads, sorted maps (RFC 9171 §4.1, RFC 8949 §4.2.1)
    allow_indefinite_items: bool = False  # blocks and EIDs of indefinite length; the payload block never
    allow_definite_bundle: bool = False  # an outer array of definite length (RFC 9171 §4.1)
    allow_trailing: bool = False  # octets behind the bundle, which are ignored
    require_primary_crc: bool = True  # or a BIB that targets the primary block (RFC 9171 §4.3.1)
    check_flags: bool = True  # RFC 9171 §4.2.3, §4.2.4: anonymous bundles and administrative records
    check_blocks: bool = True  # RFC 9171 §4.4: Previous Node, Bundle Age and Hop Count at most once
    require_age: bool = True  # RFC 9171 §4.4.2: creation time zero needs a Bundle Age block
    check_source: bool = True  # RFC 9171 §4.2.5.2: the source is a singleton or null, and never ipn:! (RFC 9758 §5.4)


STRICT: Final = Strictness()
LENIENT: Final = Strictness(
    canonical=False,
    allow_indefinite_items=True,
    allow_definite_bundle=True,
    allow_trailing=True,
    require_primary_crc=False,
    check_flags=False,
    check_blocks=False,
    require_age=False,
    check_source=False,
)
