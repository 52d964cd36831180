"""What a sensniff peripheral and its host say to each other.

No text specifies it: this is what the host tool and the firmware of Contiki-NG (`examples/sensniff`) write and read. A message
is four octets of magic, the version, the command, a length (one octet in version 1, two in version 2, most significant first)
and so many octets. Peripherals before version 1 write the length of a frame in place of the version, and the frame.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

MAGIC: Final = b"\xc1\x1f\xfe\x72"
LEGACY_MAGIC: Final = b"Snif"
MAGIC_OCTETS: Final = 4


class Command(IntEnum):
    """From the peripheral, below 0x80."""

    FRAME = 0x00
    CHANNEL = 0x01
    CHANNEL_LEAST = 0x02
    CHANNEL_MOST = 0x03
    NOT_SUPPORTED = 0x7F


ASK_CHANNEL: Final = {1: MAGIC + b"\x01\x81", 2: MAGIC + b"\x02\x81"}


class Head(NamedTuple):
    """Of a message from the peripheral."""

    version: int  # 0: before version 1
    command: int
    octets: int  # of this head, with the magic
    body_octets: int


def encode_set_channel(version: int, channel: int) -> bytes:
    """Tune to this channel; answered by CHANNEL."""
    return MAGIC + (bytes((1, 0x82, 1, channel)) if version == 1 else bytes((2, 0x84, 0, 1, channel)))


def find_magic(octets: bytes | bytearray) -> int:
    """Where the first message begins, or could begin: what comes before is none."""
    places = [at for magic in (MAGIC, LEGACY_MAGIC) if (at := octets.find(magic)) >= 0]
    return min(places) if places else len(octets) - _begun_octets(octets)


def _begun_octets(octets: bytes | bytearray) -> int:
    """How many octets at the end are the first ones of a magic."""
    for count in range(min(MAGIC_OCTETS - 1, len(octets)), 0, -1):
        if any(magic.startswith(octets[-count:]) for magic in (MAGIC, LEGACY_MAGIC)):
            return count
    return 0


def decode_head(octets: bytes | bytearray) -> Head | None:
    """Of the message that begins here, with its magic; None: more is needed."""
    if len(octets) < MAGIC_OCTETS + 1:
        return None
    version = octets[MAGIC_OCTETS]
    if version == 1:
        return Head(1, octets[5], 7, octets[6]) if len(octets) >= 7 else None
    if version == 2:
        return Head(2, octets[5], 8, octets[6] << 8 | octets[7]) if len(octets) >= 8 else None
    return Head(0, Command.FRAME, 5, version)
