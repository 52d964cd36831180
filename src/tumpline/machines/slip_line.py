"""What comes over a serial line, cut into SLIP frames (RFC 1055), whichever way the sender writes its ENDs.

Senders put an END behind each frame, before and behind it, or one between two frames: an END ends what stands before it and
begins what comes after it, and nothing between two ENDs is no frame. What stands on the line before the first END may be the
rest of a frame whose beginning was missed: it is a frame only where a caller says that it was listening from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tumpline.errors import MalformedError
from tumpline.wire.slip import END, decode_slip_untrusted

FRAME_OCTETS_MOST: Final = 2048  # an IPv6 packet over SLIP, and far above a radio's 127 octets


@dataclass(slots=True)
class Counters:
    """Of frames."""

    received: int = 0
    malformed: int = 0
    too_long: int = 0


class SlipLine:
    """`receive` what was read, in pieces of any length."""

    def __init__(self, *, from_start: bool = True, frame_octets_most: int = FRAME_OCTETS_MOST) -> None:
        self.counts = Counters()
        self._octets_most = 2 * frame_octets_most  # on the line, where every octet may be escaped
        self._frame_most = frame_octets_most
        self._rest = bytearray()
        self._in_frame = from_start
        self._too_long = False

    def receive(self, data: bytes) -> list[bytes]:
        """The frames that these octets complete, in order."""
        first, *others = data.split(END)
        self._add(first)
        frames: list[bytes] = []
        for other in others:
            frame = self._end()
            if frame is not None:
                frames.append(frame)
            self._add(other)
        return frames

    def _add(self, octets: bytes) -> None:
        if not self._in_frame or self._too_long:
            return
        if len(self._rest) + len(octets) > self._octets_most:
            self._too_long = True
            self._rest.clear()
        else:
            self._rest += octets

    def _end(self) -> bytes | None:
        escaped, was_in_frame, was_too_long = bytes(self._rest), self._in_frame, self._too_long
        self._rest.clear()
        self._in_frame, self._too_long = True, False
        if was_too_long:
            self.counts.too_long += 1
        if was_too_long or not was_in_frame or not escaped:
            return None
        try:
            frame = decode_slip_untrusted(escaped)
        except MalformedError:
            self.counts.malformed += 1
            return None
        if len(frame) > self._frame_most:
            self.counts.too_long += 1
            return None
        self.counts.received += 1
        return frame
