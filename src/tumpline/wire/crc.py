"""The two checksums of RFC 9171 §4.2.1, incremental over octets in any pieces."""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache

from fastcrc.crc16 import ibm_sdlc as _x25
from fastcrc.crc32 import iscsi as _castagnoli


class CrcType(IntEnum):
    """RFC 9171 §4.2.1: these values and no others are valid."""

    NONE = 0
    X25 = 1
    CRC32C = 2


_LENGTHS = (0, 2, 4)


def crc16_x25(data: bytes | memoryview, value: int = 0) -> int:
    """CRC-16/X.25 (ISO/IEC 13239) of `data`; `value` is the CRC of the octets before it."""
    return _x25(data, value)


def crc32c(data: bytes | memoryview, value: int = 0) -> int:
    """CRC-32C (Castagnoli) of `data`; `value` is the CRC of the octets before it."""
    return _castagnoli(data, value)


# RFC 3385 §5: the generator of CRC-32C with the highest power left out, lowest power in the highest bit.
_GENERATOR = 0x82F63B78
_ONE = 1 << 31  # the polynomial 1 in that order of bits


def _times(left: int, right: int) -> int:
    """The product of two polynomials over GF(2), modulo the generator."""
    product = 0
    for power in range(31, -1, -1):
        if left >> power & 1:
            product ^= right
        right = right >> 1 ^ _GENERATOR if right & 1 else right >> 1
    return product


@lru_cache(maxsize=256)
def _shift_octets(count: int) -> int:
    """x^(8 * count), modulo the generator: what `count` octets behind it do to a remainder."""
    result, square = _ONE, _ONE >> 8  # x^8
    while count:
        if count & 1:
            result = _times(square, result)
        square = _times(square, square)
        count >>= 1
    return result


def crc32c_joined(first: int, second: int, second_octets: int) -> int:
    """The CRC-32C of two runs of octets, of which the CRCs are known. 4 us if the second's length is that of one before."""
    return _times(_shift_octets(second_octets), first) ^ second


def crc_octets(crc_type: int) -> int:
    """Octets of the CRC value itself: 0, 2 or 4."""
    return _LENGTHS[crc_type]


def crc_field(crc_type: int, value: int) -> bytes:
    """The CRC as a block carries it: a byte string in network byte order (RFC 9171 §4.2.2); nothing for type 0."""
    if crc_type == 2:
        return b"\x44" + struct.pack(">I", value)
    if crc_type == 1:
        return b"\x42" + struct.pack(">H", value)
    return b""


# RFC 9171 §4.3.1: while the CRC is computed its field is populated with zeros.
ZEROED_FIELD = (b"", b"\x42\0\0", b"\x44\0\0\0\0")


class RunningCrc:
    """The CRC of octets as they come. For `CrcType.NONE` the value stays 0."""

    __slots__ = ("crc_type", "value")

    def __init__(self, crc_type: int) -> None:
        self.crc_type = crc_type
        self.value = 0

    def update(self, data: bytes | memoryview) -> None:
        if self.crc_type == 2:
            self.value = _castagnoli(data, self.value)
        elif self.crc_type == 1:
            self.value = _x25(data, self.value)
