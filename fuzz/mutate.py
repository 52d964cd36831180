"""Mutations of real traffic: what a broken link, a careless peer and a hostile one do to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

# Where lengths, counts and numbers go wrong: the edges of CBOR heads, of fields of fixed size, and what is announced to
# make a receiver reserve room.
_NUMBERS = [0, 1, 23, 24, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]
# Heads of CBOR items: integers of each width, indefinite strings, arrays and maps, tags, break.
_OCTETS = bytes.fromhex(
    "00 17 18 19 1a 1b 3b 40 44 58 5b 5f 60 78 7b 7f 80 82 9b 9f a1 bb bf c2 d8 db f4 f5 f6 f8 fb ff"
)
CHANGES_MOST = 4  # mutations of one input; the more, the earlier a decoder gives up
OCTETS_MOST = 1 << 18  # of an input: twice what goes through a machine in one piece

Mutation = Callable[[Random, bytearray, Sequence[bytes]], None]


def mutated(chance: Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds, changed in some places."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, CHANGES_MOST)):
        chance.choice(_MUTATIONS)(chance, data, seeds)
    return bytes(data[:OCTETS_MOST])


def _flip(chance: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(chance: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice(_OCTETS) if chance.random() < 0.7 else chance.randrange(256)


def _cut(chance: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start, end = _range(chance, data)
    del data[start:end]


def _truncate(chance: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[chance.randint(0, len(data)) :]


def _double(chance: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start, end = _range(chance, data)
    data[end:end] = data[start:end] * chance.choice([1, 1, 2, 50])


def _number(chance: Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A number in place of octets, as a field of fixed size or as the argument of a CBOR head."""
    octets = chance.choice([1, 2, 4, 8])
    value = (chance.choice(_NUMBERS) & (1 << 8 * octets) - 1).to_bytes(octets, "big")
    if chance.random() < 0.5:
        value = bytes([chance.randrange(8) << 5 | 24 + octets.bit_length() - 1]) + value
    start = chance.randint(0, len(data))
    data[start : start + (len(value) if chance.random() < 0.7 else 1)] = value


def _insert(chance: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = chance.randint(0, len(data))
    data[start:start] = chance.randbytes(chance.choice([1, 2, 8, 64]))


def _nest(chance: Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Arrays in arrays, tags of tags."""
    start = chance.randint(0, len(data))
    data[start:start] = chance.choice([b"\x81", b"\x9f", b"\xa1", b"\xc1", b"\x5f"]) * chance.choice([1, 5, 20, 5000])


def _splice(chance: Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """The end of another seed."""
    other = chance.choice(seeds)
    data[chance.randint(0, len(data)) :] = other[chance.randint(0, len(other)) :]


def _range(chance: Random, data: bytearray) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.choice([1, 2, 4, 16, 256]))


_MUTATIONS: list[Mutation] = [
    _flip,
    _flip,
    _set,
    _set,
    _cut,
    _truncate,
    _double,
    _number,
    _number,
    _insert,
    _nest,
    _splice,
]
