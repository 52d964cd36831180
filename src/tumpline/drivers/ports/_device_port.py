"""What ports of network devices have in common: their life, their counters, and reading when there is something."""

from __future__ import annotations

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tumpline.drivers.ports._api import PortHost
from tumpline.drivers.ports._netlink import Interface
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import TumplineError
from tumpline.machines.packets import BATCH_OCTETS_MOST, PACKET_OCTETS_MOST, RECORD_HEAD_OCTETS, PacketBatch, PacketKind

# Behind this mark of the buffer the longest packet would not fit any more.
ROOM_UNTIL: Final = BATCH_OCTETS_MOST - RECORD_HEAD_OCTETS - PACKET_OCTETS_MOST
# Somebody deleted the interface: that may have been the step before making it anew by hand.
AGAIN_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_log = logging.getLogger(__name__)


class Filled(NamedTuple):
    """What one wake-up brought: records in the port's buffer."""

    octets: int
    records: int
    gone: str  # why there will be nothing more, if so


class DevicePort(ABC):
    """A `PacketPort` on one file descriptor."""

    kind = PacketKind.IP

    def __init__(self, name: str, mtu: int) -> None:
        self.name = name
        self._mtu = mtu
        self._fd = -1
        self._addresses: Sequence[Interface] = ()
        self._is_reading = False
        self._is_paused = False
        self._buffer = bytearray(BATCH_OCTETS_MOST)
        self._view = memoryview(self._buffer)
        # Out of the port, into it, and what it did not take.
        self._counts = dict.fromkeys(
            ("packets_out", "octets_out", "packets_in", "octets_in", "dropped", "malformed"), 0
        )
        self._host: PortHost
        self._tasks = TaskOwner(lambda _name, error: self._host.port_down(f"interface {self.name}: {error}"))

    # ---- what each kind of device does by itself ---------------------------------------------------------------------

    @abstractmethod
    async def _open(self) -> int:
        """Open and configure it; set `name` and `_addresses`. Raises: TumplineError, nothing left."""

    @abstractmethod
    async def _undo(self) -> None:
        """Before the descriptor is closed. Idempotent."""

    @abstractmethod
    def _fill(self) -> Filled:
        """Read until nothing waits or the buffer is full."""

    @abstractmethod
    def write(self, batch: PacketBatch) -> None:
        """Into the machine."""

    @property
    def _can_come_back(self) -> bool:
        return True

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self, host: PortHost) -> None:
        """Open and configure it. Raises: TumplineError."""
        self._host = host
        self._fd = await self._open()
        host.port_up(**self._facts())
        self._read_or_not()

    async def stop(self) -> None:
        """With the device go its addresses and routes; what stays is taken back."""
        await self._tasks.stop()
        await self._close()

    async def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if self._is_reading:
            asyncio.get_running_loop().remove_reader(fd)
            self._is_reading = False
        await self._undo()
        if fd >= 0:
            os.close(fd)

    async def _come_back(self, reason: str) -> None:
        await self._close()
        self._host.port_down(f"interface {self.name} is gone: {reason}")
        attempt = 0
        while self._can_come_back:
            await asyncio.sleep(AGAIN_S[min(attempt, len(AGAIN_S) - 1)])
            attempt += 1
            try:
                await self.start(self._host)
            except TumplineError as error:
                _log.info("%s", error)
            else:
                return

    # ---- packets ----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Leave what comes in the kernel's queue, which is short."""
        self._is_paused = True
        self._read_or_not()

    def resume(self) -> None:
        """Read again."""
        self._is_paused = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        wanted = self._fd >= 0 and not self._is_paused
        if wanted and not self._is_reading:
            asyncio.get_running_loop().add_reader(self._fd, self._readable)
        elif self._is_reading and not wanted:
            asyncio.get_running_loop().remove_reader(self._fd)
        self._is_reading = wanted

    def _readable(self) -> None:
        """One batch of all that waits, as far as it holds it."""
        octets, count, gone = self._fill()
        if count:
            counts = self._counts
            counts["packets_out"] += count
            counts["octets_out"] += octets - count * RECORD_HEAD_OCTETS
            self._host.from_port(PacketBatch(self.kind, self._view[:octets], count))
        if gone and self._is_reading:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._is_reading = False
            self._tasks.start(self._come_back(gone), f"interface {self.name} again")

    # ---- for people -------------------------------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        return {"name": self.name, "addresses": [str(each) for each in self._addresses], "mtu": self._mtu}

    def describe(self) -> dict[str, Any]:
        """Name, addresses, MTU; packets and octets out of the port (to the overlay) and into it."""
        return {**self._facts(), "is_open": self._fd >= 0, "is_paused": self._is_paused, **self._counts}
