"""A radio probe on a serial line: frames of IEEE 802.15.4 out of it and into it. It may be unplugged and plugged in again."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any, Final, Literal

import msgspec

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.ports._api import PortHost, PortSpec
from tumpline.drivers.tty import DeviceGoneError, close_tty, open_tty
from tumpline.errors import TumplineError
from tumpline.machines.packets import PacketBatch, PacketKind
from tumpline.machines.serial._api import SerialConfig as LineConfig
from tumpline.machines.serial._api import Trailer
from tumpline.machines.serial.dialects import DIALECTS
from tumpline.machines.serial.line import SerialLine
from tumpline.wire.dot15d4 import FRAME_OCTETS_MOST

READ_OCTETS: Final = 1 << 16
# Frames that wait for the line: two thirds of a second at 115,200 Bd. Later than that nobody waits for them.
UNSENT_OCTETS_MOST: Final = 8 << 10
REPLUG_S: Final = 0.25  # between two looks for a device that is gone


class SerialConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A serial line with a radio probe."""

    device: str
    """The device: "/dev/ttyUSB0", or better a name that stays: "/dev/serial/by-id/...". It may come and go."""
    baudrate: int = 115_200
    """As the probe has it."""
    dialect: Literal["slip", "slip-radio", "sensniff"] = "slip"
    """What the probe speaks: frames between ENDs of SLIP, Contiki-NG's slip-radio, or sensniff (which only listens)."""
    mode: Literal["active", "passive"] = "active"
    """active: frames both ways, acknowledged by the probe itself. passive: the probe listens, nothing is sent to it."""
    trailer: Literal["none", "fcs", "metadata", ""] = ""
    """What the probe leaves behind a frame: nothing; the FCS, which is checked and taken away, and put behind what is sent; or
    RSSI and LQI in its place, as TI's radios do. Default: as is usual in the dialect."""
    channel: Annotated[int, msgspec.Meta(ge=0, le=26)] | None = None
    """Channel to tune the probe to (11 to 26 at 2.4 GHz), where the dialect can; it stands in captures too."""
    pan_id: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)] | None = None
    """PAN that the probe is to filter by, where the dialect can."""
    short_address: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)] | None = None
    """Address of the device that the probe stands for, and acknowledges for, where the dialect can set it."""
    flow_control: bool = False
    """By RTS and CTS."""
    frame_octets_most: Annotated[int, msgspec.Meta(ge=5, le=2047)] = FRAME_OCTETS_MOST
    """The longest frame, with its FCS: 127; of the PHYs of 802.15.4g 2047."""


class SerialPort:
    """See PacketPort. Everything runs on the loop's thread; the line is read when there is something."""

    kind = PacketKind.FRAME

    def __init__(self, config: SerialConfig) -> None:
        self.name = config.device
        self._config = config
        self._line = _line_of(config)
        self._fd = -1
        self._unsent = bytearray()
        self._is_paused = False
        self._alarm = Alarm(self._timeout)
        self._replug: asyncio.TimerHandle | None = None
        self._unplugged = 0
        self._problem = ""  # why it cannot be opened although it is there again

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self, host: PortHost) -> None:
        """See PacketPort. Raises: TumplineError."""
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._open()

    def _open(self) -> None:
        self._fd = open_tty(self._config.device, self._config.baudrate, flow_control=self._config.flow_control)
        self._line.opened(self._loop.time())
        if not self._is_paused:
            self._loop.add_reader(self._fd, self._read)
        self._settle()
        if self._fd >= 0:
            self._host.port_up(**self._facts())

    def _facts(self) -> dict[str, Any]:
        return {
            "device": self.name,
            "baudrate": self._config.baudrate,
            "dialect": self._config.dialect,
            "mode": "active" if self._line.can_send else "passive",
            "unplugged": self._unplugged,  # how often
        }

    async def stop(self) -> None:
        """See PacketPort."""
        self._close()
        if self._replug is not None:
            self._replug.cancel()
            self._replug = None

    def _close(self) -> None:
        self._alarm.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            close_tty(self._fd)
            self._fd = -1
        self._unsent.clear()

    # ---- out of the line --------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_OCTETS)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(error.strerror or str(error))
            return
        if not data:
            self._gone("the line hung up")
            return
        batch = self._line.receive(data, self._loop.time())
        if batch is not None:
            self._host.from_port(batch)
        self._settle()

    def pause(self) -> None:
        """See PacketPort."""
        self._is_paused = True
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """See PacketPort."""
        self._is_paused = False
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    # ---- into the line ----------------------------------------------------------------------------------------------

    def write(self, batch: PacketBatch) -> None:
        """See PacketPort."""
        if self._fd < 0:
            self._line.counts.dropped += batch.count
            return
        self._line.send(batch, self._loop.time())
        self._settle()

    def _settle(self) -> None:
        """Put on the line what the machine has for it, and arm its timer. Ours may be gone after this."""
        for unit in self._line.writes():
            if len(self._unsent) + len(unit) > UNSENT_OCTETS_MOST:
                self._line.overflowed()
            else:
                self._unsent += unit
        self._flush()
        if self._fd >= 0:
            self._alarm.set(self._line.next_timeout())

    def _timeout(self) -> None:
        self._line.handle_timeout(self._loop.time())
        self._settle()

    def _flush(self) -> None:
        try:
            while self._unsent and self._fd >= 0:
                del self._unsent[: os.write(self._fd, self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._settle)
            return
        except OSError as error:
            self._gone(error.strerror or str(error))
            return
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)

    # ---- unplugged --------------------------------------------------------------------------------------------------

    def _gone(self, reason: str) -> None:
        self._close()
        self._unplugged += 1
        self._replug = self._loop.call_later(REPLUG_S, self._look)
        self._host.port_down(f"{reason}; waiting until it is there again")

    def _look(self) -> None:
        try:
            self._replug = None
            self._open()
            self._problem = ""
        except TumplineError as error:
            # Also while udev has not given it to our group yet: whatever it is, it was ours before.
            self._problem = "" if isinstance(error, DeviceGoneError) else str(error)
            self._replug = self._loop.call_later(REPLUG_S, self._look)

    def describe(self) -> dict[str, Any]:
        """See PacketPort."""
        problem = self._problem or self._line.problem
        state = {"name": self.name, "is_open": self._fd >= 0, "is_paused": self._is_paused, "problem": problem}
        return state | self._facts() | self._line.snapshot()


def _line_of(config: SerialConfig) -> SerialLine:
    spec = DIALECTS[config.dialect]
    trailer = Trailer(config.trailer) if config.trailer else spec.trailer
    line = LineConfig(
        trailer,
        config.mode == "passive",
        config.channel,
        config.pan_id,
        config.short_address,
        config.frame_octets_most,
    )
    return SerialLine(line, spec.open(line))


SPEC = PortSpec("serial", "a radio probe (IEEE 802.15.4) on a serial line", SerialConfig, SerialPort)
