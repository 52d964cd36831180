"""Contiki-NG's slip-radio: it transmits by number and reports what became of it, and what its radio receives comes as it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tumpline.machines.serial._api import DialectSpec, SerialConfig, Trailer
from tumpline.machines.serial._settings import Settings
from tumpline.machines.slip_line import SlipLine
from tumpline.wire.slip import END, encode_slip
from tumpline.wire.slip_radio import (
    ASK_ADDRESS,
    Address,
    Frame,
    Message,
    Param,
    Report,
    Text,
    TxStatus,
    Value,
    decode_message,
    encode_ask,
    encode_send,
    encode_set,
)

NUMBERS: Final = 16  # the firmware remembers so many
UNDER_WAY_MOST: Final = 4  # half of its queue of packets: what it receives takes room there too
REPORT_S: Final = 1.0  # four transmissions with back-offs take 0.1 s; later the report was lost on the line
WAITING_MOST: Final = 64
TEXT_LENGTH_MOST: Final = 200


@dataclass(slots=True)
class Counters:
    """Of frames given to the radio; each ends in one of the first four."""

    acknowledged: int = 0  # or needed no acknowledgement
    unacknowledged: int = 0
    failed: int = 0  # the channel was never free, or the radio could not
    unreported: int = 0
    transmissions: int = 0
    errors: int = 0  # commands that the firmware did not know


class SlipRadioDialect:
    """See Dialect."""

    can_send = True

    def __init__(self, config: SerialConfig) -> None:
        wanted: dict[int, int | None] = {Param.CHANNEL: config.channel}
        if config.pan_id is not None:
            wanted[Param.PAN_ID] = config.pan_id
        if config.short_address is not None:
            wanted[Param.SHORT_ADDRESS] = config.short_address
        if config.is_passive:
            wanted[Param.RX_MODE] = 0
        self._settings = Settings(wanted)
        self._line = SlipLine(from_start=False)
        self._counts = Counters()
        self._waiting: deque[bytes] = deque()
        self._under_way: dict[int, float] = {}  # by number: when its report is given up
        self._number = 0
        self._address = b""
        self._said = ""
        self._writes: list[bytes] = []

    @property
    def channel(self) -> int | None:
        """See Dialect."""
        return self._settings.told.get(Param.CHANNEL)

    def opened(self, now: float) -> None:
        """See Dialect."""
        counts = self._line.counts
        self._line = SlipLine(from_start=False)
        self._line.counts = counts
        self._counts.unreported += len(self._under_way) + len(self._waiting)
        self._under_way.clear()
        self._waiting.clear()
        self._writes = [END + encode_slip(ASK_ADDRESS)]
        self._settings.opened(now)
        self._tell(now)

    def _tell(self, now: float) -> None:
        """A parameter is set and asked for: only the answer says that it is so."""
        for param, value in self._settings.due(now):
            if value is not None:
                self._writes.append(encode_slip(encode_set(Param(param), value)))
            self._writes.append(encode_slip(encode_ask(Param(param))))

    # ---- from the radio ---------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[bytes]:
        """See Dialect."""
        messages = [decode_message(octets) for octets in self._line.receive(data)]
        heard = [message.octets for message in messages if isinstance(message, Frame)]
        for message in messages:
            self._obey(message)
        self._transmit(now)
        return heard

    def _obey(self, message: Message) -> None:
        match message:
            case Report():
                self._reported(message)
            case Value(param, value):
                self._settings.answered(param, value)
            case Address(octets):
                self._address = octets
            case Text(text):
                self._counts.errors += text.startswith("EUnknown")
                self._said = text[:TEXT_LENGTH_MOST]

    def _reported(self, report: Report) -> None:
        if self._under_way.pop(report.number, None) is None:
            return  # late, or of a firmware that counts otherwise
        self._counts.transmissions += report.transmissions
        if report.status == TxStatus.OK:
            self._counts.acknowledged += 1
        elif report.status == TxStatus.NO_ACK:
            self._counts.unacknowledged += 1
        else:
            self._counts.failed += 1

    # ---- to the radio -----------------------------------------------------------------------------------------------

    def send(self, frames: Sequence[bytes], now: float) -> int:
        """See Dialect."""
        taken = frames[: WAITING_MOST - len(self._waiting)]
        self._waiting.extend(taken)
        self._transmit(now)
        return len(frames) - len(taken)

    def _transmit(self, now: float) -> None:
        while self._waiting and len(self._under_way) < UNDER_WAY_MOST:
            self._number = (self._number + 1) % NUMBERS
            self._under_way[self._number] = now + REPORT_S
            self._writes.append(encode_slip(encode_send(self._number, self._waiting.popleft())))

    def writes(self) -> list[bytes]:
        """See Dialect."""
        writes, self._writes = self._writes, []
        return writes

    # ---- time -------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """See Dialect."""
        deadlines = [*self._under_way.values()]
        if (at := self._settings.next_timeout()) is not None:
            deadlines.append(at)
        return min(deadlines, default=None)

    def handle_timeout(self, now: float) -> None:
        """See Dialect."""
        late = [number for number, at in self._under_way.items() if at <= now]
        for number in late:
            del self._under_way[number]
        self._counts.unreported += len(late)
        self._tell(now)
        self._transmit(now)

    def snapshot(self) -> dict[str, Any]:
        """See Dialect."""
        counts = {"slip": asdict(self._line.counts), "radio": asdict(self._counts)}
        about = {"channel": self.channel, "address": self._address.hex(), "said": self._said}
        return counts | about | {"pan_id": self._settings.told.get(Param.PAN_ID), "waiting": len(self._waiting)}


SPEC: Final = DialectSpec("slip-radio", "Contiki-NG's slip-radio", Trailer.NONE, SlipRadioDialect)
