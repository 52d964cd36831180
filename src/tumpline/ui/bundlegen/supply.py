"""What is sent: bundles, or octets that are none, as the command line asked for them."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tumpline.errors import ConfigError
from tumpline.wire.bundle7 import encode_bundle
from tumpline.wire.generate import draw_bundle, draw_item, draw_octets

KINDS: Final = ("fullvalid", "randcbor", "randbytes", "stdin")
_SUFFIXES: Final = {"fullvalid": ".cbor", "randcbor": ".cbor"}


def supply(kind: str, count: int, seed: int, least_octets: int = 0) -> Iterator[bytes]:
    """`count` of this kind; those that are drawn are the same for the same seed. `least_octets`: of random octets."""
    if kind == "stdin":
        data = sys.stdin.buffer.read()
        return itertools.repeat(data, count)
    chance = random.Random(seed)
    if kind == "fullvalid":
        return (encode_bundle(draw_bundle(chance, index)) for index in range(count))
    if kind == "randcbor":
        return (draw_item(chance) for _ in range(count))
    assert kind == "randbytes", kind
    return (draw_octets(chance, least_octets) for _ in range(count))


def kept(supplied: Iterator[bytes], kind: str, prefix: str) -> Iterator[bytes]:
    """The same, each written to a file of its own on the way: PREFIX000000.cbor and so on."""
    suffix = _SUFFIXES.get(kind, ".bin")
    for index, data in enumerate(supplied):
        path = Path(f"{prefix}{index:06}{suffix}")
        try:
            path.write_bytes(data)
        except OSError as error:
            raise ConfigError(
                f"--to-file: {path} cannot be written: {error.strerror}; name a directory that is there"
            ) from error
        yield data
