"""The seam of dialects: the ways in which probes put frames on a serial line. One module here = one dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

from tumpline.wire.dot15d4 import FRAME_OCTETS_MOST


class Trailer(Enum):
    """What a probe leaves behind each frame."""

    NONE = "none"  # it takes the FCS away, and makes one for what it sends
    FCS = "fcs"  # the FCS as it came, and wants one behind what it shall send
    METADATA = "metadata"  # RSSI and LQI in place of the FCS, as TI's radios write them


class SerialConfig(NamedTuple):
    """What a line has to know of its probe."""

    trailer: Trailer = Trailer.NONE
    is_passive: bool = False  # it listens only
    channel: int | None = None  # to tune to when the line is opened; None leaves it as it is
    pan_id: int | None = None  # to filter by, likewise
    short_address: int | None = None  # of the device that the probe stands for: to filter by, and to acknowledge for
    octets_most: int = FRAME_OCTETS_MOST  # of a frame with its FCS


class Dialect(Protocol):
    """Octets of a line <-> frames."""

    can_send: bool

    @property
    def channel(self) -> int | None:
        """The one the radio listens on, if that is known."""

    def opened(self, now: float) -> None:
        """The line is there (again): nothing is left of before."""

    def receive(self, data: bytes, now: float) -> list[bytes]:
        """Frames that these octets complete, as the probe gave them."""

    def send(self, frames: Sequence[bytes], now: float) -> int:
        """To be transmitted by the radio, as they are. Returns: how many of the last ones are not, for want of room."""

    def writes(self) -> list[bytes]:
        """What is to be put on the line now, each whole."""

    def next_timeout(self) -> float | None:
        """As of every machine."""

    def handle_timeout(self, now: float) -> None:
        """As of every machine."""

    def snapshot(self) -> dict[str, Any]:
        """Counters, and what the probe has said of itself."""


class DialectSpec(NamedTuple):
    """The last line of a dialect's module: `SPEC = DialectSpec(...)`."""

    name: str
    summary: str
    trailer: Trailer  # unless configured otherwise
    open: Callable[[SerialConfig], Dialect]
