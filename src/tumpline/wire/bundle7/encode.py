"""From values to the octets of a bundle. Written by hand: a small bundle takes about two microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

from tumpline.wire.bundle7.values import Bundle, BundleFlags, BundleHead, CanonicalBlock, PrimaryBlock
from tumpline.wire.cbor import encode_head as cbor_head
from tumpline.wire.cbor import encode_uint
from tumpline.wire.crc import ZEROED_FIELD, crc16_x25, crc32c, crc32c_joined, crc_field

_BUNDLE = b"\x9f"  # RFC 9171 §4.1: an array of indefinite length ...
_BREAK = b"\xff"  # ... and its end
_BYTES = tuple(cbor_head(2, length) for length in range(0x100))
_UINT = tuple(encode_uint(value) for value in range(0x100))  # most numbers are small
_SHORT = Struct(">BH").pack
_WORD = Struct(">BI").pack
_LONG = Struct(">BQ").pack
_CRC32C_FIELD = Struct(">BI").pack
_CRC32C_TAIL = Struct(">BIB").pack


def _uint(value: int) -> bytes:
    if value < 0x100:
        return _UINT[value]
    if value < 0x10000:
        return _SHORT(0x19, value)
    return _WORD(0x1A, value) if value < 0x100000000 else _LONG(0x1B, value)


def _sealed(block: bytes, crc_type: int) -> bytes:
    """A block with the CRC over it, computed with its field zeroed (RFC 9171 §4.2.2, §4.3)."""
    if crc_type == 2:
        return block + _CRC32C_FIELD(0x44, crc32c(block + b"\x44\0\0\0\0"))
    if crc_type == 1:
        return block + crc_field(1, crc16_x25(block + b"\x42\0\0"))
    return block


def encode_primary(primary: PrimaryBlock) -> bytes:
    """The primary block with its CRC (RFC 9171 §4.3.1)."""
    flags, crc_type, destination, source, report_to, created_ms, sequence, lifetime_ms, offset, total = primary
    items = 0x89 if crc_type else 0x88
    fragment = b""
    if flags & BundleFlags.IS_FRAGMENT:
        assert offset is not None, "a fragment has an offset"
        assert total is not None, "a fragment has a total length"
        items += 2
        fragment = encode_uint(offset) + encode_uint(total)
    block = b"%c\x07%b%c%b%b%b\x82%b%b%b%b" % (
        items,
        _uint(flags),
        crc_type,
        destination.encoded,
        source.encoded,
        report_to.encoded,
        _uint(created_ms),
        _uint(sequence),
        _uint(lifetime_ms),
        fragment,
    )
    return _sealed(block, crc_type)


def encode_block(block: CanonicalBlock) -> bytes:
    """An extension block with its CRC (RFC 9171 §4.3.2)."""
    block_type, number, flags, crc_type, data = block
    items = b"\x86" if crc_type else b"\x85"
    head = _uint(block_type) + _uint(number) + _uint(flags) + _UINT[crc_type] + cbor_head(2, len(data))
    return _sealed(items + head + data, crc_type)


@lru_cache(maxsize=4096)
def payload_block_prefix(flags: int, crc_type: int, length: int) -> bytes:
    """The payload block up to its data: array head, type 1, number 1, flags, CRC type, byte string head."""
    head = _BYTES[length] if length < 0x100 else cbor_head(2, length)
    return b"%c\x01\x01%b%c%b" % (0x86 if crc_type else 0x85, _uint(flags), crc_type, head)


def payload_crc(crc_type: int, prefix: bytes, payload: bytes | memoryview) -> int:
    """The CRC of a payload block, its field zeroed (RFC 9171 §4.2.2)."""
    if crc_type == 2:
        return crc32c(b"\x44\0\0\0\0", crc32c(payload, crc32c(prefix)))
    if crc_type == 1:
        return crc16_x25(ZEROED_FIELD[1], crc16_x25(payload, crc16_x25(prefix)))
    return 0


def payload_crc32c_of(prefix: bytes, payload_crc32c: int, payload_octets: int) -> int:
    """The CRC-32C of a payload block of which only the payload's own CRC is known, its field zeroed (RFC 9171 §4.2.2)."""
    return crc32c(ZEROED_FIELD[2], crc32c_joined(crc32c(prefix), payload_crc32c, payload_octets))


def encode_tail(crc_type: int, crc_value: int) -> bytes:
    """What follows the payload's octets: the CRC of the payload block, and the break that ends the bundle."""
    if crc_type == 2:
        return _CRC32C_TAIL(0x44, crc_value, 0xFF)
    return crc_field(crc_type, crc_value) + _BREAK


def encode_head(
    primary: PrimaryBlock,
    blocks: Sequence[CanonicalBlock],
    payload_length: int,
    payload_flags: int = 0,
    payload_crc_type: int = 2,
) -> bytes:
    """Everything before the payload's octets."""
    middle = b"".join(map(encode_block, blocks)) if blocks else b""
    prefix = payload_block_prefix(payload_flags, payload_crc_type, payload_length)
    return _BUNDLE + encode_primary(primary) + middle + prefix


def make_head(
    primary: PrimaryBlock, blocks: tuple[CanonicalBlock, ...], middle: bytes, payload_length: int, crc_type: int
) -> tuple[bytes, BundleHead]:
    """`encode_head`, and what decoding it would give. `middle` is the octets of `blocks`: many bundles have the same."""
    primary_octets = encode_primary(primary)
    prefix = payload_block_prefix(0, crc_type, payload_length)
    octets = _BUNDLE + primary_octets + middle + prefix
    return octets, BundleHead(primary, blocks, 0, crc_type, len(octets), payload_length, primary_octets, prefix)


def reencode_head(head: BundleHead, blocks: Sequence[CanonicalBlock]) -> bytes:
    """The head with other extension blocks: the primary block and the payload's prefix stay the octets they were."""
    return _BUNDLE + head.primary_octets + b"".join(map(encode_block, blocks)) + head.payload_prefix


def encode_bundle(bundle: Bundle) -> bytes:
    """The whole bundle."""
    primary, blocks, payload, flags, crc_type = bundle
    block = _sealed(payload_block_prefix(flags, crc_type, len(payload)) + payload, crc_type)
    middle = b"".join(map(encode_block, blocks)) if blocks else b""
    return b"\x9f%b%b%b\xff" % (encode_primary(primary), middle, block)
