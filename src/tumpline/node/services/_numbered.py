"""The payloads of sources: numbered, and made so that a sink can tell every octet of them."""

from __future__ import annotations

import struct

# Magic, the run (random), the number of the ADU in the run, octets of the whole payload.
_HEADER = struct.Struct("!8s8sQI")
_MAGIC = b"tl-numb\n"
HEADER_OCTETS = _HEADER.size
RUN_OCTETS = 8
# 251 is prime: neither a lost octet nor a lost block of a power of two goes unseen.
_PATTERN = bytes(range(251)) * 8
_whole: dict[int, bytes] = {}
_MAX_KEPT = 4  # filler of the sizes in use


def make(run: bytes, number: int, size: int) -> bytes:
    """Payload `number` of a run, of `size` octets (at least HEADER_OCTETS)."""
    return _HEADER.pack(_MAGIC, run, number, size) + filler(size - HEADER_OCTETS)


def filler(length: int) -> bytes:
    """So many octets of the pattern."""
    found = _whole.get(length)
    if found is None:
        if len(_whole) >= _MAX_KEPT:
            del _whole[next(iter(_whole))]
        found = _whole[length] = (_PATTERN * (length // len(_PATTERN) + 1))[:length]
    return found


def parse(data: bytes) -> tuple[bytes, int] | None:
    """Run and number, None if one octet is not as `make` wrote it."""
    if len(data) < HEADER_OCTETS:
        return None
    magic, run, number, size = _HEADER.unpack_from(data)
    if magic != _MAGIC or size != len(data) or data[HEADER_OCTETS:] != filler(size - HEADER_OCTETS):
        return None
    return run, number
