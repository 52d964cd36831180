"""What a client is about to write, in few pieces: small things run together, large bodies stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from tumpline.wire.amqp import (
    FRAME_OVERHEAD_OCTETS,
    FrameKind,
    Properties,
    encode_content_header,
    encode_frame,
    encode_method,
)
from tumpline.wire.amqp import methods as m

KEPT_WHOLE_OCTETS: Final = (
    16_384  # from here on a body of bytes is a piece of its own: copying would cost more than a piece
)
REMEMBERED: Final = 1024  # beginnings of messages; who publishes under ever new keys pays for each
NO_PROPERTIES: Final = Properties()

_U64, _U32 = Struct(">Q"), Struct(">I")
_BODY_OCTETS_AT: Final = 4  # in the payload of a content header: class, weight, then how long the body is
_END: Final = b"\xce"

Body = bytes | memoryview | Sequence[bytes | bytearray | memoryview]


class _Beginning:
    """Of all messages with this key and these properties: only the length of the body stands between the two halves."""

    __slots__ = ("after", "before", "properties")

    def __init__(self, channel: int, method: m.BasicPublish, properties: Properties) -> None:
        self.properties = properties
        header = encode_frame(FrameKind.HEADER, channel, encode_content_header(0, properties))
        split = 7 + _BODY_OCTETS_AT
        self.before = encode_frame(FrameKind.METHOD, channel, encode_method(method)) + header[:split]
        body = encode_frame(FrameKind.BODY, channel, b"")
        self.after = header[split + _U64.size :] + body[:3]  # as far as the length of the first body frame


class Outbox:
    """Frames to be written, in order. `octets` counts those that `take` has not given out yet."""

    def __init__(self, frame_octets_most: int) -> None:
        self.octets = 0
        self.body_octets_most = frame_octets_most - FRAME_OVERHEAD_OCTETS  # of one frame
        self._pieces: list[bytes | memoryview] = []
        self._open = bytearray()  # what follows them
        self._beginnings: dict[tuple[int, str, str, bool, int], _Beginning] = {}

    def take(self) -> list[bytes | memoryview]:
        """All of it; nothing changes these pieces any more."""
        pieces = self._pieces
        if self._open:
            pieces.append(memoryview(self._open))
            self._open = bytearray()
        self._pieces = []
        self.octets = 0
        return pieces

    def raw(self, octets: bytes) -> None:
        """These as they are."""
        self._open += octets
        self.octets += len(octets)

    def method(self, channel: int, method: m.Method) -> None:
        """Raises: ValueError: an argument that AMQP cannot carry."""
        self.raw(encode_frame(FrameKind.METHOD, channel, encode_method(method)))

    def publish(
        self, channel: int, exchange: str, routing_key: str, body: Body, properties: Properties | None, mandatory: bool
    ) -> None:
        """A message. Views are copied, bytes may be kept. Raises: ValueError: an argument that AMQP cannot carry."""
        if properties is None:
            properties = NO_PROPERTIES
        # By identity: tables cannot be hashed, and who publishes much has its properties made once.
        beginning = self._beginnings.get((channel, exchange, routing_key, mandatory, id(properties)))
        if beginning is None:
            beginning = self._begin(channel, exchange, routing_key, properties, mandatory)
        length = len(body) if isinstance(body, bytes | memoryview) else sum(map(len, body))
        out = self._open
        out += beginning.before
        out += _U64.pack(length)
        out += beginning.after
        if not 0 < length <= self.body_octets_most:
            del out[-3:]  # none or several body frames: not as prepared
            self._frames(channel, body if isinstance(body, bytes | memoryview) else b"".join(body))
        else:
            out += _U32.pack(length)
            if isinstance(body, bytes | memoryview):
                self._append(body)
            else:
                for piece in body:
                    self._append(piece)
            self._open += _END
        self.octets += len(beginning.before) + len(beginning.after) + length + _U64.size + _U32.size + 1

    def _append(self, piece: bytes | bytearray | memoryview) -> None:
        if len(piece) < KEPT_WHOLE_OCTETS or type(piece) is not bytes:
            self._open += piece
            return
        self._pieces += (memoryview(self._open), piece)
        self._open = bytearray()

    def _frames(self, channel: int, body: bytes | memoryview) -> None:
        view, most = memoryview(body), self.body_octets_most
        for at in range(0, len(view), most):
            self._open += encode_frame(FrameKind.BODY, channel, view[at : at + most])

    def _begin(
        self, channel: int, exchange: str, routing_key: str, properties: Properties, mandatory: bool
    ) -> _Beginning:
        if len(self._beginnings) >= REMEMBERED:
            self._beginnings.clear()
        method = m.BasicPublish(0, exchange, routing_key, mandatory)
        # It holds the properties, so that their identity stays theirs.
        beginning = _Beginning(channel, method, properties)
        self._beginnings[channel, exchange, routing_key, mandatory, id(properties)] = beginning
        return beginning
