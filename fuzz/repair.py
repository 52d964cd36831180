"""Checksums made right again: without this a mutated bundle would end at its first CRC, and nothing behind it be tried."""

from __future__ import annotations

from tumpline.errors import MalformedError
from tumpline.wire.cbor import scan_item
from tumpline.wire.crc import crc16_x25, crc32c

_BREAK = 0xFF


def repaired(data: bytes) -> bytes:
    """The bundle with the CRCs of all blocks that look like blocks with a CRC at their end made right."""
    if data[:1] != b"\x9f":
        return data
    out, offset = bytearray(data[:1]), 1
    try:
        while offset < len(data) and data[offset] != _BREAK:
            end = scan_item(data, offset, shortest=False, definite=False)
            out += _block(data[offset:end])
            offset = end
    except MalformedError:
        pass  # the rest stays as it is
    return bytes(out + data[offset:])


def _block(block: bytes) -> bytes:
    behind = 1 if block[:1] == b"\x9f" else 0  # a block of indefinite length ends with a break
    for octets, head in ((4, 0x44), (2, 0x42)):
        field = len(block) - behind - octets
        if field > 0 and block[field - 1] == head:
            zeroed = block[:field] + bytes(octets) + block[field + octets :]
            value = crc32c(zeroed) if octets == 4 else crc16_x25(zeroed)
            return block[:field] + value.to_bytes(octets, "big") + block[field + octets :]
    return block
