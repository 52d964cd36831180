"""What is sent: bundles, or octets that are none, as the command line asked for them."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tumpline.errors import ConfigError
from tumpline.wire.bundle7 import encode_bundle
from tumpline.wire.generate import Chance, draw_bundle, draw_item, draw_octets

_DRAWN: Final[dict[str, Callable[[Chance, int], bytes]]] = {
    "fullvalid": lambda chance, index: encode_bundle(draw_bundle(chance, index)),
    "randcbor": lambda chance, _index: draw_item(chance),
    "randbytes": lambda chance, _index: draw_octets(chance),
}
KINDS: Final = (*_DRAWN, "stdin")
_SUFFIXES: Final = {"fullvalid": ".cbor", "randcbor": ".cbor"}


def supply(kind: str, count: int, seed: int) -> Iterator[bytes]:
    """`count` of this kind; those that are drawn are the same for the same seed."""
    if kind == "stdin":
        data = sys.stdin.buffer.read()
        yield from (data for _ in range(count))
        return
    chance, draw = random.Random(seed), _DRAWN[kind]
    yield from (draw(chance, index) for index in range(count))


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
