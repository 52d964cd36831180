"""A TUN device: what programs on this machine send to the overlay comes out of it, and what comes from there goes in.

It gives and takes super-packets (up to 64 KiB without a checksum, `wire/virtio_net`), so that a stream costs a call for
forty packets. A read puts header and packet to where they stand in the batch; a write is one call a record.
"""

from __future__ import annotations

import errno
import os
import sys
from struct import Struct
from typing import Final

from tumpline.drivers.ports._api import PacketPort, PortSpec
from tumpline.drivers.ports._device_port import ROOM_UNTIL, DevicePort, Filled
from tumpline.drivers.ports._interface import Configured
from tumpline.drivers.ports._tun_config import BehindConfig, TunConfig, wanted
from tumpline.drivers.ports._tun_linux import TunDevice, adopt_device, join_device, make_device, only_whole_packets
from tumpline.drivers.ports._utun import UtunPort
from tumpline.machines.packets import RECORD_HEAD_OCTETS, PacketBatch

__all__ = ["SPEC", "BehindConfig", "TunConfig", "TunPort"]

_LENGTH: Final = Struct("<I")


class TunPort(DevicePort):
    """A `PacketPort` of Linux. Raises: ConfigError with every mistake of the configuration."""

    def __init__(self, config: TunConfig) -> None:
        super().__init__(config.device or config.name, config.mtu)
        self._config = config
        self._wanted = wanted(config)
        self._interface: Configured | None = None

    async def _open(self) -> int:
        device = self._device()
        self.name = device.name
        try:
            if not self._config.super_packets:
                only_whole_packets(device)
            await self._configure(device)
        except BaseException:
            await self._undo()
            os.close(device.fd)
            raise
        return device.fd

    def _device(self) -> TunDevice:
        if self._config.fd >= 0:
            return adopt_device(self._config.fd)
        return join_device(self._config.device) if self._config.device else make_device(self._config.name)

    async def _configure(self, device: TunDevice) -> None:
        """A device that came open may be in another network namespace: there it was configured."""
        self._addresses = self._wanted.addresses
        if self._config.fd < 0:
            self._interface = Configured(device.name, device.is_ours)
            self._addresses = self._interface.apply(self._wanted)
            self._mtu = self._interface.mtu

    async def _undo(self) -> None:
        interface, self._interface = self._interface, None
        if interface is not None:
            await interface.undo()

    @property
    def _can_come_back(self) -> bool:
        return self._config.fd < 0

    def _fill(self) -> Filled:
        fd, buffer, view, at, count = self._fd, self._buffer, self._view, 0, 0
        try:
            while at <= ROOM_UNTIL:
                octets = os.readv(fd, (view[at + 4 :],))
                _LENGTH.pack_into(buffer, at, octets)
                at += 4 + octets
                count += 1
        except BlockingIOError:
            pass
        except OSError as error:
            return Filled(at, count, error.strerror or str(error))
        return Filled(at, count, "")

    def write(self, batch: PacketBatch) -> None:
        """One call a record. What the kernel refuses is no packet, or the interface is down."""
        if self._fd < 0:
            self._counts["dropped"] += batch.count
            return
        fd, octets, at, write = self._fd, batch.octets, 0, os.write
        refused = refused_octets = 0
        for _ in range(batch.count):
            after = at + 4 + _LENGTH.unpack_from(octets, at)[0]
            try:
                write(fd, octets[at + 4 : after])
            except OSError as error:
                self._counts["malformed" if error.errno == errno.EINVAL else "dropped"] += 1
                refused += 1
                refused_octets += after - at
            at = after
        taken = batch.count - refused
        self._counts["packets_in"] += taken
        self._counts["octets_in"] += at - refused_octets - taken * RECORD_HEAD_OCTETS


def open_port(config: TunConfig) -> PacketPort:
    """Of this system's kind. Raises: ConfigError."""
    return UtunPort(config) if sys.platform == "darwin" else TunPort(config)


SPEC = PortSpec("tun", "a TUN device of this machine", TunConfig, open_port)
