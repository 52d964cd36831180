"""A TUN device: what programs on this machine send to the overlay comes out of it, and what comes from there goes in.

It gives and takes super-packets (up to 64 KiB without a checksum, `wire/virtio_net`), so that a stream costs a call for
forty packets. A read puts header and packet to where they stand in the batch; a write is one call a record.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from struct import Struct
from typing import Annotated, Any, Final

import msgspec

from tumpline.drivers.ports._api import PortHost, PortSpec
from tumpline.drivers.ports._interface import Configured, Wanted
from tumpline.drivers.ports._netlink import Interface, Network
from tumpline.drivers.ports._tun_linux import NAME_OCTETS_MOST, TunDevice, adopt_device, join_device, make_device
from tumpline.errors import ConfigError
from tumpline.machines.packets import BATCH_OCTETS_MOST, PACKET_OCTETS_MOST, RECORD_HEAD_OCTETS, PacketBatch, PacketKind

_LENGTH: Final = Struct("<I")
# Behind this mark the longest packet would not fit any more.
_ROOM_UNTIL: Final = BATCH_OCTETS_MOST - RECORD_HEAD_OCTETS - PACKET_OCTETS_MOST


class TunConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A TUN device of this machine."""

    name: str = ""
    """Of the new interface; by default the first of tumpline0, tumpline1, ... that is free."""
    device: str = ""
    """Join this interface, which somebody made for us, in place of making one: for users without rights."""
    fd: Annotated[int, msgspec.Meta(ge=-1)] = -1
    """Or this open device, whose interface is configured already."""
    addresses: list[str] = msgspec.field(default_factory=list)
    """Such as bbbb::1/64 and 10.2.0.1/24."""
    link_local: str = ""
    """Such as fe80::1/64."""
    mtu: Annotated[int, msgspec.Meta(ge=1280, le=PACKET_OCTETS_MOST)] = 1500
    """Longest packet, in octets; those of other members should be the same."""
    queue_packets: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 256
    """That wait in the kernel while we are busy or the link is congested; more are dropped."""
    routes: list[str] = msgspec.field(default_factory=list)
    """Further networks that lie behind the overlay."""


class TunPort:
    """A `PacketPort`. Raises: ConfigError with every mistake of the configuration."""

    kind = PacketKind.IP

    def __init__(self, config: TunConfig) -> None:
        self._config = config
        self._wanted = _wanted(config)
        self.name = config.device or config.name
        self._host: PortHost
        self._device: TunDevice | None = None
        self._interface: Configured | None = None
        self._addresses: list[Interface] = []
        self._is_reading = False
        self._buffer = bytearray(BATCH_OCTETS_MOST)
        self._view = memoryview(self._buffer)
        self._counts = dict.fromkeys(
            ("packets_out", "octets_out", "packets_in", "octets_in", "dropped", "malformed"), 0
        )  # out of the port, into it

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self, host: PortHost) -> None:
        """Open and configure it. Raises: TumplineError."""
        self._host = host
        self._device = device = self._open()
        self.name = device.name
        try:
            self._configure(device)
        except BaseException:
            self._close()
            raise
        host.port_up(**self._facts())
        self.resume()

    def _open(self) -> TunDevice:
        if self._config.fd >= 0:
            return adopt_device(self._config.fd)
        return join_device(self._config.device) if self._config.device else make_device(self._config.name)

    def _configure(self, device: TunDevice) -> None:
        """A device that came open may be in another network namespace: there it was configured."""
        self._addresses = list(self._wanted.addresses)
        if self._config.fd < 0:
            self._interface = Configured(device.name, device.is_ours)
            self._addresses = self._interface.apply(self._wanted)

    async def stop(self) -> None:
        """With the device go its addresses and routes; of one that stays, they are taken back."""
        self._close()

    def _close(self) -> None:
        self.pause()
        device, self._device = self._device, None
        interface, self._interface = self._interface, None
        if interface is not None:
            interface.undo()
        if device is not None:
            os.close(device.fd)

    # ---- packets ----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Leave what comes in the kernel's queue."""
        if self._is_reading and self._device is not None:
            asyncio.get_running_loop().remove_reader(self._device.fd)
        self._is_reading = False

    def resume(self) -> None:
        """Read again."""
        if not self._is_reading and self._device is not None:
            asyncio.get_running_loop().add_reader(self._device.fd, self._readable)
            self._is_reading = True

    def _readable(self) -> None:
        """All that waits, as far as one batch holds it."""
        assert self._device is not None
        fd, buffer, view, at, count = self._device.fd, self._buffer, self._view, 0, 0
        gone = ""
        while at <= _ROOM_UNTIL:
            try:
                octets = os.readv(fd, (view[at + 4 :],))
            except BlockingIOError:
                break
            except OSError as error:
                gone = error.strerror or str(error)
                break
            _LENGTH.pack_into(buffer, at, octets)
            at += 4 + octets
            count += 1
        if count:
            counts = self._counts
            counts["packets_out"] += count
            counts["octets_out"] += at - count * RECORD_HEAD_OCTETS
            self._host.from_port(PacketBatch(PacketKind.IP, view[:at], count))
        if gone:
            self._lost(gone)

    def write(self, batch: PacketBatch) -> None:
        """Into the machine, one call a packet. What the kernel refuses is no packet, or the interface is down."""
        if self._device is None:
            self._counts["dropped"] += batch.count
            return
        fd, octets, at, write = self._device.fd, batch.octets, 0, os.write
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
        self._counts["packets_in"] += batch.count - refused
        self._counts["octets_in"] += at - refused_octets - (batch.count - refused) * RECORD_HEAD_OCTETS

    def _lost(self, why: str) -> None:
        """Somebody deleted the interface."""
        self._close()
        self._host.port_down(f"interface {self.name} is gone: {why}")

    # ---- for people -------------------------------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        return {"name": self.name, "addresses": [str(each) for each in self._addresses], "mtu": self._wanted.mtu}

    def describe(self) -> dict[str, Any]:
        """Name, addresses, MTU; packets and octets out of the port (to the overlay) and into it."""
        return {**self._facts(), "is_open": self._device is not None, "is_paused": not self._is_reading, **self._counts}


def _wanted(config: TunConfig) -> Wanted:
    """Raises: ConfigError with every mistake."""
    problems = [*_problems_of_names(config)]
    addresses: list[Interface] = []
    for text in config.addresses:
        try:
            addresses.append(ip_interface(text))
        except ValueError as error:
            problems.append(f"tun.addresses: {error}; write such as bbbb::1/64 or 10.2.0.1/24")
    if config.link_local:
        try:
            address = ip_interface(config.link_local)
            if not address.ip.is_link_local:
                raise ValueError(f"{config.link_local} is no link-local address")
            addresses.append(address)
        except ValueError as error:
            problems.append(f"tun.link_local: {error}; write such as fe80::1/64")
    routes: list[Network] = []
    for text in config.routes:
        try:
            routes.append(ip_network(text))
        except ValueError as error:
            problems.append(f"tun.routes: {error}; write such as cccc::/64")
    if problems:
        raise ConfigError(problems)
    return Wanted(addresses, config.mtu, config.queue_packets, routes)


def _problems_of_names(config: TunConfig) -> Iterator[str]:
    if sum((bool(config.name), bool(config.device), config.fd >= 0)) > 1:
        yield "tun: name, device and fd exclude each other; keep one"
    for key, name in (("name", config.name), ("device", config.device)):
        if len(name.encode()) > NAME_OCTETS_MOST or set(name) & set("/: \t\n%") or name in (".", ".."):
            yield f"tun.{key}: no interface can be called {name!r}; 1 to {NAME_OCTETS_MOST} octets without / : %"


SPEC = PortSpec("tun", "a TUN device of this machine", TunConfig, TunPort)
