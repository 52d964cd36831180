"""The decoder for every shape that a bundle may have, and the one that says what is wrong.

It reads item by item and knows the rules of `Strictness`. What is common and deterministic never comes here: see fast.py.
"""

from __future__ import annotations

from tumpline.errors import MalformedError
from tumpline.wire.bundle7.rules import check_head
from tumpline.wire.bundle7.values import (
    MAX_BLOCKS,
    MAX_HEAD_OCTETS,
    VERSION,
    BlockType,
    BundleFlags,
    BundleHead,
    CanonicalBlock,
    PrimaryBlock,
    Strictness,
)
from tumpline.wire.cbor import INDEFINITE, Cursor
from tumpline.wire.crc import crc16_x25, crc32c, crc_octets
from tumpline.wire.eid import Eid, decode_eid_untrusted


def decode_head(data: bytes, rules: Strictness) -> BundleHead:
    """Everything before the payload's octets. Raises MalformedError; TruncatedError where octets are missing."""
    cursor = Cursor(data, shortest=rules.canonical, definite=not rules.allow_indefinite_items)
    items = _enter_bundle(cursor, rules)
    start = cursor.offset
    primary = _primary(cursor)
    primary_octets = data[start : cursor.offset]
    blocks: list[CanonicalBlock] = []
    while True:
        start = cursor.offset
        count, block_type, number, flags, crc_type = _block_start(cursor)
        if block_type == BlockType.PAYLOAD:
            break
        if len(blocks) == MAX_BLOCKS:
            raise MalformedError(f"the bundle has more than {MAX_BLOCKS} blocks before its payload")
        blocks.append(_extension(cursor, start, count, CanonicalBlock(block_type, number, flags, crc_type, b"")))
    if number != 1:
        raise MalformedError(f"the payload block has the number {number}, not 1 (RFC 9171 §4.1)")
    if count == INDEFINITE:
        raise MalformedError("the payload block has an indefinite length, which is not allowed here")
    if items not in (INDEFINITE, len(blocks) + 2):
        raise MalformedError("the payload block is not the last block (RFC 9171 §4.1)")
    length = cursor.string_head("payload")
    extensions = tuple(blocks)
    check_head(primary, extensions, flags, length, rules)
    end = cursor.offset
    return BundleHead(primary, extensions, flags, crc_type, end, length, primary_octets, data[start:end])


def _enter_bundle(cursor: Cursor, rules: Strictness) -> int:
    """RFC 9171 §4.1: an array of indefinite length; a receiver may take one of definite length."""
    if cursor.data[:1] == b"\x9f":
        cursor.offset = 1
        return INDEFINITE
    items = cursor.array("bundle")
    if not rules.allow_definite_bundle:
        raise MalformedError("the bundle is not an array of indefinite length (RFC 9171 §4.1)")
    return items


def _primary(cursor: Cursor) -> PrimaryBlock:
    """RFC 9171 §4.3.1."""
    start = cursor.offset
    count = cursor.array("primary block")
    version = cursor.uint("version")
    if version != VERSION:
        raise MalformedError(f"version {version} is not the version of BPv7")
    flags, crc_type = cursor.uint("bundle flags"), _crc_type(cursor)
    destination, source, report_to = _eid(cursor), _eid(cursor), _eid(cursor)
    stamp = cursor.array("creation timestamp")
    created_ms, sequence = cursor.uint("creation time"), cursor.uint("sequence number")
    cursor.leave("creation timestamp", stamp, 2)
    lifetime_ms = cursor.uint("lifetime")
    offset = total = None
    if flags & BundleFlags.IS_FRAGMENT:
        offset, total = cursor.uint("fragment offset"), cursor.uint("total length")
    items = 8 + (2 if offset is not None else 0) + (1 if crc_type else 0)
    _block_end(cursor, "primary block", start, count, items, crc_type)
    return PrimaryBlock(
        flags, crc_type, destination, source, report_to, created_ms, sequence, lifetime_ms, offset, total
    )


def _eid(cursor: Cursor) -> Eid:
    eid, cursor.offset = decode_eid_untrusted(
        cursor.data, cursor.offset, shortest=cursor.shortest, definite=cursor.definite
    )
    return eid


def _crc_type(cursor: Cursor) -> int:
    value = cursor.uint("CRC type")
    if value > 2:
        raise MalformedError(f"CRC type {value} is none of 0, 1, 2 (RFC 9171 §4.2.1)")
    return value


def _block_start(cursor: Cursor) -> tuple[int, int, int, int, int]:
    """Array length, type, number, flags and CRC type of a block other than the primary (RFC 9171 §4.3.2)."""
    if cursor.at_break():
        raise MalformedError("the bundle ends without a payload block (RFC 9171 §4.1)")
    count = cursor.array("block")
    block_type, number = cursor.uint("block type"), cursor.uint("block number")
    flags, crc_type = cursor.uint("block flags"), _crc_type(cursor)
    if count not in (INDEFINITE, 6 if crc_type else 5):
        raise MalformedError(f"block {number} has {count} items (RFC 9171 §4.3.2)")
    return count, block_type, number, flags, crc_type


def _extension(cursor: Cursor, start: int, count: int, block: CanonicalBlock) -> CanonicalBlock:
    what = f"block {block.number}"
    length = cursor.string_head(f"data of {what}")
    if length > MAX_HEAD_OCTETS:
        raise MalformedError(f"{what} has {length} octets; all before the payload may have {MAX_HEAD_OCTETS}")
    data = cursor.octets(f"the data of {what}", length)
    _block_end(cursor, what, start, count, 6 if block.crc_type else 5, block.crc_type)
    return block._replace(data=data)


def _block_end(cursor: Cursor, what: str, start: int, count: int, items: int, crc_type: int) -> None:
    """The CRC field, the end of the block's array, and whether the CRC is right (RFC 9171 §4.2.2)."""
    octets = crc_octets(crc_type)
    if not octets:
        cursor.leave(what, count, items)
        return
    # RFC 9171 §4.2.2: additional information 2 or 4, so the head is one octet whatever else is allowed.
    if cursor.octets(f"the CRC of {what}", 1)[0] != 0x40 + octets:
        raise MalformedError(f"the CRC of {what} is not a byte string of {octets} octets (RFC 9171 §4.2.2)")
    field = cursor.offset
    value = int.from_bytes(cursor.octets(f"the CRC of {what}", octets), "big")
    cursor.leave(what, count, items)
    zeroed = cursor.data[start:field] + bytes(octets) + cursor.data[field + octets : cursor.offset]
    if value != (crc32c(zeroed) if crc_type == 2 else crc16_x25(zeroed)):
        raise MalformedError(f"the CRC of {what} does not match its octets")
