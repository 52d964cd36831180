"""Frames of AMQP 0-9-1 (specification §2.3.5): kind, channel, length, payload, and an octet that says that all is well."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from tumpline.errors import MalformedError

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"  # specification §2.2.4: what a client says first
FRAME_END: Final = 0xCE
FRAME_OVERHEAD_OCTETS: Final = 8
_HEAD: Final = Struct(">BHI")


class FrameKind(IntEnum):
    """Specification §2.3.5."""

    METHOD = 1
    HEADER = 2
    BODY = 3
    HEARTBEAT = 8


class Frame(NamedTuple):
    """`payload` is of the buffer that was split: it dies with it."""

    kind: int
    channel: int
    payload: memoryview


def encode_frame(kind: FrameKind, channel: int, payload: bytes | memoryview) -> bytes:
    """One frame."""
    return b"".join((_HEAD.pack(kind, channel, len(payload)), payload, b"\xce"))


HEARTBEAT: Final = encode_frame(FrameKind.HEARTBEAT, 0, b"")


def frame_octets(head: bytes | memoryview) -> int:
    """How long the frame is whose first seven octets these are."""
    length: int = _HEAD.unpack_from(head)[2]
    return length + FRAME_OVERHEAD_OCTETS


def split_frames_untrusted(data: memoryview, frame_octets_most: int) -> tuple[list[Frame], int]:
    """The whole frames at the beginning of these octets, and how many octets they are. Raises: MalformedError (nothing that
    follows can be told apart any more)."""
    frames: list[Frame] = []
    at, end = 0, len(data)
    while end - at >= FRAME_OVERHEAD_OCTETS:
        kind, channel, length = _HEAD.unpack_from(data, at)
        after = at + length + FRAME_OVERHEAD_OCTETS
        if after - at > frame_octets_most:
            raise MalformedError(f"AMQP: a frame of {after - at} octets, {frame_octets_most} were agreed")
        if after > end:
            break
        if data[after - 1] != FRAME_END:
            raise MalformedError(f"AMQP: a frame that ends with {data[after - 1]:#04x}")
        frames.append(Frame(kind, channel, data[at + 7 : after - 1]))
        at = after
    return frames, at
