"""Raw SLIP: each frame of the radio between ENDs, nothing else. What the older packet agent's probes speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from tumpline.machines.serial._api import DialectSpec, SerialConfig, Trailer
from tumpline.machines.slip_line import SlipLine
from tumpline.wire.slip import encode_slip

# What comes within this time after the line was opened may be the end of a frame whose beginning was missed: the longest frame
# takes 11 ms at 115,200 Bd. A frame without its FCS cannot be told from its end, so that one is not taken for a whole.
JOINED_LATE_S: Final = 0.05


class SlipDialect:
    """Takes every way to write ENDs, writes one before and one behind each frame."""

    can_send = True

    def __init__(self, config: SerialConfig) -> None:
        self.channel = config.channel  # nobody tells the probe: it is configured likewise
        self._octets_most = config.octets_most
        self._line = SlipLine(frame_octets_most=config.octets_most)
        self._writes: list[bytes] = []
        self._opened_at: float | None = None

    def opened(self, now: float) -> None:
        """See Dialect."""
        self._opened_at = now
        self._writes = []

    def receive(self, data: bytes, now: float) -> list[bytes]:
        """See Dialect."""
        if self._opened_at is not None:
            self._begin(joined_late=now - self._opened_at < JOINED_LATE_S)
        return self._line.receive(data)

    def _begin(self, *, joined_late: bool) -> None:
        counts = self._line.counts
        self._line = SlipLine(from_start=not joined_late, frame_octets_most=self._octets_most)
        self._line.counts = counts
        self._opened_at = None

    def send(self, frames: Sequence[bytes], now: float) -> int:  # noqa: ARG002
        """See Dialect."""
        self._writes += map(encode_slip, frames)
        return 0

    def writes(self) -> list[bytes]:
        """See Dialect."""
        writes, self._writes = self._writes, []
        return writes

    def next_timeout(self) -> None:
        """Nothing is waited for."""

    def handle_timeout(self, now: float) -> None:
        """Nothing is waited for."""

    def snapshot(self) -> dict[str, Any]:
        """See Dialect."""
        return {"slip": asdict(self._line.counts)}


SPEC: Final = DialectSpec("slip", "frames between ENDs of SLIP (RFC 1055), nothing else", Trailer.NONE, SlipDialect)
