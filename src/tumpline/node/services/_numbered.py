"""The payloads of sources: numbered, and made so that a sink can tell every octet of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from tumpline.drivers.payload import PIECE_OCTETS

# Magic, the run (random), the number of the ADU in the run, octets of the whole payload.
_HEADER = struct.Struct("!8s8sQQ")
_MAGIC = b"tl-numb\n"
HEADER_OCTETS = _HEADER.size
RUN_OCTETS = 8
# 251 is prime: neither a lost octet nor a lost block of a power of two goes unseen.
_PERIOD = 251
_PATTERN = bytes(range(_PERIOD)) * (PIECE_OCTETS // _PERIOD + 2)
_PATTERN_VIEW = memoryview(_PATTERN)


def make(run: bytes, number: int, size: int) -> bytes:
    """Payload `number` of a run, of `size` octets (at least HEADER_OCTETS)."""
    if size > PIECE_OCTETS:
        return b"".join(make_pieces(run, number, size))
    return _HEADER.pack(_MAGIC, run, number, size) + _PATTERN_VIEW[: size - HEADER_OCTETS]


def make_pieces(run: bytes, number: int, size: int) -> Iterator[bytes | memoryview]:
    """The same in pieces of PIECE_OCTETS; the last one may be shorter."""
    first = min(size, PIECE_OCTETS)
    yield _HEADER.pack(_MAGIC, run, number, size) + _PATTERN_VIEW[: first - HEADER_OCTETS]
    for begin in range(first, size, PIECE_OCTETS):
        yield _filler(begin, min(PIECE_OCTETS, size - begin))


def parse(pieces: Iterable[bytes | memoryview]) -> tuple[bytes, int] | None:
    """Run and number, None if one octet is not as `make` wrote it. No piece may be longer than PIECE_OCTETS."""
    left = iter(pieces)
    first = next(left, b"")
    if len(first) < HEADER_OCTETS:
        return None
    magic, run, number, size = _HEADER.unpack_from(first)
    length = len(first)
    # One memcmp: `==` of a view compares octet by octet, a slice of the payload would be a copy.
    if magic != _MAGIC or not _PATTERN.startswith(memoryview(first)[HEADER_OCTETS:]):
        return None
    for piece in left:
        if not _PATTERN.startswith(piece, _phase(length)):
            return None
        length += len(piece)
    return (run, number) if length == size else None


def _filler(begin: int, length: int) -> memoryview:
    """The octets of the pattern from `begin` of the payload."""
    phase = _phase(begin)
    return _PATTERN_VIEW[phase : phase + length]


def _phase(begin: int) -> int:
    """Where in the pattern the octets from `begin` of the payload are."""
    return (begin - HEADER_OCTETS) % _PERIOD
