"""The decoder for the shapes that nearly all bundles have: every head in its shortest form, every length definite.

It answers None for whatever it does not know at once, be it legal or not: careful.py decides then. So nothing here words an
error, and nothing here may accept what careful.py refuses (the tests run both over the same octets). Indexes past the end
raise IndexError; slices do not, so each length is compared before a slice is trusted.
"""

from __future__ import annotations

from tumpline.errors import MalformedError
from tumpline.wire.bundle7.rules import SPECIAL_FLAGS, check_head
from tumpline.wire.bundle7.values import (
    MAX_BLOCKS,
    BlockType,
    BundleHead,
    CanonicalBlock,
    PrimaryBlock,
    Strictness,
)
from tumpline.wire.crc import crc16_x25, crc32c
from tumpline.wire.eid import CACHE, Eid, remember_eid

_new = tuple.__new__
_cached = CACHE.get
_from_bytes = int.from_bytes
_UINT_OCTETS = (1,) * 24 + (2, 3, 5, 9)  # by initial octet; an index error for what begins no unsigned integer
_NO_BLOCKS: tuple[CanonicalBlock, ...] = ()


class _UnusualError(Exception):
    """Not one of the shapes known here."""


def decode_head(data: bytes, rules: Strictness) -> BundleHead | None:
    """The head of a bundle of a common shape whose CRCs are right and which breaks no rule; else None."""
    try:
        return _head(data, rules)
    except (IndexError, _UnusualError, MalformedError):
        return None


def _uint(data: bytes, offset: int) -> tuple[int, int]:
    """An unsigned integer in its shortest form, and the offset behind it."""
    first = data[offset]
    if first < 24:
        return first, offset + 1
    if first == 0x1B:
        end = offset + 9
        value = _from_bytes(data[offset + 1 : end], "big")
        if value > 0xFFFFFFFF and end < len(data):
            return value, end
    elif first == 0x1A:
        end = offset + 5
        value = _from_bytes(data[offset + 1 : end], "big")
        if value > 0xFFFF and end < len(data):
            return value, end
    elif first == 0x19:
        value = data[offset + 1] << 8 | data[offset + 2]
        if value > 0xFF:
            return value, offset + 3
    elif first == 0x18:
        value = data[offset + 1]
        if value > 23:
            return value, offset + 2
    raise _UnusualError


def _eid(data: bytes, offset: int) -> tuple[Eid, int]:
    """An EID of scheme dtn or ipn, and the offset behind it."""
    if data[offset] != 0x82:
        raise _UnusualError
    if data[offset + 1] == 1:
        head = data[offset + 2]
        if 0x60 <= head < 0x78:
            end = offset + head - 0x5D
        elif head == 0x78:
            end = offset + 4 + data[offset + 3]
        elif head == 0:
            end = offset + 3
        else:
            raise _UnusualError
    elif data[offset + 1] == 2 and (count := data[offset + 2] - 0x80) in (2, 3):
        end = offset + 3
        end += _UINT_OCTETS[data[end]]
        end += _UINT_OCTETS[data[end]]
        if count == 3:
            end += _UINT_OCTETS[data[end]]
    else:
        raise _UnusualError
    octets = data[offset:end]
    return _cached(octets) or remember_eid(octets), end


# Destination, source and report-to of most bundles are those of a bundle before. Found by the first octets that tell
# flows apart, and compared whole: an EID's end is part of its octets, so no other three begin with them.
_Three = tuple[bytes, Eid, Eid, Eid]
_FLOW_OCTETS = 40
_MAX_FLOWS = 1024  # of at most three times MAX_EID_OCTETS
_flows: dict[bytes, _Three] = {}


def _eids(data: bytes, offset: int) -> _Three:
    """The octets of the three EIDs of a primary block, and the EIDs."""
    key = data[offset : offset + _FLOW_OCTETS]
    known = _flows.get(key)
    if known is not None and data.startswith(known[0], offset):
        return known
    destination, end = _eid(data, offset)
    source, end = _eid(data, end)
    report_to, end = _eid(data, end)
    if len(_flows) >= _MAX_FLOWS:
        _flows.clear()
    _flows[key] = found = (data[offset:end], destination, source, report_to)
    return found


# The extension blocks of most bundles are those of a bundle before, octet for octet: what was verified once is not verified
# again. Compared whole, so no CRC goes unchecked: these very octets had the right one.
_RUN_KEY_OCTETS = 16
_MAX_RUNS = 1024
_MAX_RUN_OCTETS = 256
_runs: dict[bytes, tuple[bytes, tuple[CanonicalBlock, ...]]] = {}


def _remember_run(octets: bytes, blocks: tuple[CanonicalBlock, ...]) -> None:
    """Keep verified extension blocks that other bundles may well have too: few octets, and no age."""
    if len(octets) > _MAX_RUN_OCTETS or any(block.type == BlockType.BUNDLE_AGE for block in blocks):
        return
    if len(_runs) >= _MAX_RUNS:
        _runs.clear()
    _runs[octets[:_RUN_KEY_OCTETS]] = (octets, blocks)


def _check_crc(data: bytes, start: int, crc_type: int, offset: int) -> int:
    """The offset behind the CRC field at `offset`, which ends the block that began at `start`; it must be right."""
    if crc_type == 2:
        end = offset + 5
        if (
            data[offset] == 0x44
            and crc32c(data[start:offset] + b"\x44\0\0\0\0") == _from_bytes(data[offset + 1 : end], "big")
            and end < len(data)
        ):
            return end
    elif crc_type == 1:
        end = offset + 3
        if data[offset] == 0x42 and crc16_x25(data[start:offset] + b"\x42\0\0") == data[end - 2] << 8 | data[end - 1]:
            return end
    elif crc_type == 0:
        return offset
    raise _UnusualError


def _head(data: bytes, rules: Strictness) -> BundleHead:
    primary, begin = _primary(data)
    blocks, start, is_new = _NO_BLOCKS, begin, False
    if data[begin + 1] != 1:
        blocks, start, is_new = _blocks(data, begin)
    count, crc_type = data[start], data[start + 4]
    flags = data[start + 3]
    if data[start + 1] != 1 or data[start + 2] != 1 or flags > 23 or crc_type > 2:
        raise _UnusualError
    if count != (0x86 if crc_type else 0x85):
        raise _UnusualError
    length, end = _string(data, start + 5)
    if (
        is_new
        or primary.flags & SPECIAL_FLAGS
        or not primary.crc_type
        or not primary.created_ms
        or not primary.source.is_plain
        or primary.destination.is_local
    ):
        check_head(primary, blocks, flags, length, rules)
        if is_new and rules.check_blocks:
            _remember_run(data[begin:start], blocks)
    return _new(BundleHead, (primary, blocks, flags, crc_type, end, length, data[1:begin], data[start:end]))


def _blocks(data: bytes, begin: int) -> tuple[tuple[CanonicalBlock, ...], int, bool]:
    """The blocks up to the payload block, where that begins, and whether such blocks were never seen and checked before."""
    run = _runs.get(data[begin : begin + _RUN_KEY_OCTETS])
    if run is not None and data.startswith(run[0], begin):
        start = begin + len(run[0])
        if data[start + 1] == 1:
            return run[1], start, False
    return (*_extensions(data, begin), True)


def _primary(data: bytes) -> tuple[PrimaryBlock, int]:
    """The primary block behind the head of the bundle's array, and the offset behind it."""
    if data[0] != 0x9F or data[2] != 7:
        raise _UnusualError
    flags, offset = (data[3], 4) if data[3] < 24 else _uint(data, 3)
    crc_type = data[offset]
    eids, destination, source, report_to = _eids(data, offset + 1)
    offset += 1 + len(eids)
    if data[offset] != 0x82:
        raise _UnusualError
    created_ms, offset = _uint(data, offset + 1)
    sequence, offset = (data[offset], offset + 1) if data[offset] < 24 else _uint(data, offset)
    lifetime_ms, offset = _uint(data, offset)
    fragment_offset = total = None
    if flags & 1:
        fragment_offset, offset = _uint(data, offset)
        total, offset = _uint(data, offset)
    if data[1] != 0x88 + (1 if crc_type else 0) + (2 if flags & 1 else 0):
        raise _UnusualError
    end = _check_crc(data, 1, crc_type, offset)
    fields = (
        flags,
        crc_type,
        destination,
        source,
        report_to,
        created_ms,
        sequence,
        lifetime_ms,
        fragment_offset,
        total,
    )
    return _new(PrimaryBlock, fields), end


def _string(data: bytes, offset: int) -> tuple[int, int]:
    """Length of the byte string at `offset`, and where its octets begin."""
    first = data[offset]
    if 0x40 <= first < 0x58:
        return first - 0x40, offset + 1
    if first == 0x58 and data[offset + 1] > 23:
        return data[offset + 1], offset + 2
    if first == 0x59 and data[offset + 1]:
        return data[offset + 1] << 8 | data[offset + 2], offset + 3
    if first == 0x5A and (end := offset + 5) <= len(data):
        length = _from_bytes(data[offset + 1 : end], "big")
        if length > 0xFFFF:
            return length, end
    raise _UnusualError


def _extensions(data: bytes, offset: int) -> tuple[tuple[CanonicalBlock, ...], int]:
    """The blocks up to the payload block, and where that begins."""
    blocks: list[CanonicalBlock] = []
    while data[offset + 1] != 1:
        start = offset
        block_type, offset = _uint(data, start + 1)
        number, offset = _uint(data, offset)
        flags, offset = _uint(data, offset)
        crc_type = data[offset]
        if data[start] != (0x86 if crc_type else 0x85):
            raise _UnusualError
        length, offset = _string(data, offset + 1)
        content = data[offset : offset + length]
        offset = _check_crc(data, start, crc_type, offset + length)
        if len(blocks) == MAX_BLOCKS:
            raise _UnusualError
        blocks.append(_new(CanonicalBlock, (block_type, number, flags, crc_type, content)))
    return tuple(blocks), offset
