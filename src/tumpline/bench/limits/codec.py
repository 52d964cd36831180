"""The plainest codec: one shape of bundle, straight-line code, CRC32C on both blocks, no checks but the CRCs."""

from __future__ import annotations

from collections.abc import Callable

from fastcrc import crc32

crc32c: Callable[[bytes, int], int] = crc32.iscsi
_ZERO_CRC = b"\x44\x00\x00\x00\x00"  # RFC 9171 §4.2.2: the CRC field is zero while the CRC is computed
_PAYLOAD_OCTETS = 100
_PAYLOAD_PREFIX = b"\x86\x01\x01\x00\x02\x58\x64"  # type 1, number 1, flags 0, CRC32C, 100 octets follow
_PRIMARY_START = b"\x89\x07\x00\x02"  # version 7, flags 0, CRC32C
_LIFETIME = b"\x1a\x05\x26\x5c\x00"  # 86,400,000 ms


def prefix(destination: str, source: str) -> bytes:
    """The primary block up to the creation timestamp, for dtn EIDs shorter than 24 characters, dtn:none to report to."""
    ids = b"".join(b"\x82\x01" + bytes((0x60 + len(name),)) + name.encode() for name in (destination, source))
    return _PRIMARY_START + ids + b"\x82\x01\x00" + b"\x82\x1b"


def encode(start: bytes, created_ms: int, sequence: int, payload: bytes) -> bytes:
    """One bundle. `sequence` below 2**32."""
    primary = start + created_ms.to_bytes(8, "big") + b"\x1a" + sequence.to_bytes(4, "big") + _LIFETIME
    block = _PAYLOAD_PREFIX + payload
    return b"".join(
        (
            b"\x9f",
            primary,
            b"\x44",
            crc32c(primary + _ZERO_CRC, 0).to_bytes(4, "big"),
            block,
            b"\x44",
            crc32c(block + _ZERO_CRC, 0).to_bytes(4, "big"),
            b"\xff",
        )
    )


def decode(data: bytes, start_octets: int) -> tuple[int, int, bytes]:
    """(created_ms, sequence, payload) of a bundle that `encode` (or any encoder of the same shape) made; CRCs verified.

    The sequence number may take 1 to 5 octets: the shortest form is what RFC 9171 §4.1 asks for."""
    at = 1 + start_octets
    created_ms = int.from_bytes(data[at : at + 8], "big")
    sequence = data[at + 8]
    after = at + 9
    if sequence >= 24:
        width = 1 << (sequence - 24)
        sequence = int.from_bytes(data[after : after + width], "big")
        after += width
    primary_end = after + len(_LIFETIME)
    if crc32c(data[1:primary_end] + _ZERO_CRC, 0).to_bytes(4, "big") != data[primary_end + 1 : primary_end + 5]:
        raise ValueError("CRC of the primary block")
    block_end = len(data) - 6
    if crc32c(data[primary_end + 5 : block_end] + _ZERO_CRC, 0).to_bytes(4, "big") != data[block_end + 1 : -1]:
        raise ValueError("CRC of the payload block")
    return created_ms, sequence, data[block_end - _PAYLOAD_OCTETS : block_end]
