"""The data of the extension blocks of RFC 9171 §4.4."""

from __future__ import annotations

from tumpline.errors import MalformedError
from tumpline.wire import cbor
from tumpline.wire.bundle7.values import BlockType, CanonicalBlock
from tumpline.wire.eid import Eid, decode_eid_untrusted

MAX_HOPS = 255  # RFC 9171 §4.4.3


def previous_node_block(node: Eid, number: int, crc_type: int = 2, flags: int = 0) -> CanonicalBlock:
    """RFC 9171 §4.4.1: the node that forwarded the bundle."""
    return CanonicalBlock(BlockType.PREVIOUS_NODE, number, flags, crc_type, node.encoded)


def bundle_age_block(age_ms: int, number: int, crc_type: int = 2, flags: int = 0) -> CanonicalBlock:
    """RFC 9171 §4.4.2: milliseconds since the bundle was created."""
    return CanonicalBlock(BlockType.BUNDLE_AGE, number, flags, crc_type, cbor.encode_uint(age_ms))


def hop_count_block(limit: int, count: int, number: int, crc_type: int = 2, flags: int = 0) -> CanonicalBlock:
    """RFC 9171 §4.4.3: the hop limit, 1 to 255, and the hops made."""
    data = b"\x82" + cbor.encode_uint(limit) + cbor.encode_uint(count)
    return CanonicalBlock(BlockType.HOP_COUNT, number, flags, crc_type, data)


def decode_previous_node(data: bytes, *, canonical: bool = True) -> Eid:
    """The forwarder's node ID. Raises MalformedError."""
    eid, end = decode_eid_untrusted(data, 0, shortest=canonical, definite=canonical)
    if end != len(data):
        raise MalformedError(f"{len(data) - end} octets too many behind the previous node")
    return eid


def decode_bundle_age(data: bytes, *, canonical: bool = True) -> int:
    """The age in milliseconds. Raises MalformedError."""
    cursor = cbor.Cursor(data, shortest=canonical)
    age_ms = cursor.uint("bundle age")
    cursor.end("the bundle age")
    return age_ms


def decode_hop_count(data: bytes, *, canonical: bool = True) -> tuple[int, int]:
    """Hop limit and hop count. Raises MalformedError."""
    cursor = cbor.Cursor(data, shortest=canonical, definite=canonical)
    items = cursor.array("hop count data")
    limit, count = cursor.uint("hop limit"), cursor.uint("hop count")
    cursor.leave("hop count data", items, 2)
    cursor.end("the hop count")
    if not 1 <= limit <= MAX_HOPS:
        raise MalformedError(f"the hop limit {limit} is not within 1 to {MAX_HOPS} (RFC 9171 §4.4.3)")
    return limit, count
