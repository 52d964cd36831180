"""TUN devices of macOS: utun, a control socket of the kernel (Apple's net/if_utun.h and sys/kern_control.h).

Written to its documentation and tried by its octets only: nobody here has a machine to try it on. Each packet stands behind
four octets that say of which family it is; there are no super-packets, so what comes from the overlay is cut first.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator
from struct import Struct
from typing import Final

from tumpline.drivers.ports._device_port import ROOM_UNTIL, DevicePort, Filled
from tumpline.drivers.ports._interface import Wanted
from tumpline.drivers.ports._tun_config import TunConfig, wanted
from tumpline.errors import ConfigError, MalformedError, TumplineError
from tumpline.machines.packets import NO_OFFLOAD, OFFLOAD_OCTETS, PacketBatch
from tumpline.wire.virtio_net import split

# sys/socket.h, sys/sys_domain.h, sys/kern_control.h, net/if_utun.h of Darwin: Python on other systems has no names for them.
PF_SYSTEM: Final = 32
SYSPROTO_CONTROL: Final = 2
CTLIOCGINFO: Final = 0xC0644E03
UTUN_CONTROL_NAME: Final = b"com.apple.net.utun_control"
UTUN_OPT_IFNAME: Final = 2
_INFO: Final = Struct("=I96s")  # struct ctl_info: number, name
_NAME_OCTETS: Final = 16
FAMILIES: Final = {4: (2).to_bytes(4, "big"), 6: (30).to_bytes(4, "big")}  # AF_INET, AF_INET6 of Darwin
_FAMILY_OCTETS: Final = 4
_LENGTH: Final = Struct("<I")


class UtunPort(DevicePort):
    """A `PacketPort` of macOS. Raises: ConfigError with every mistake of the configuration."""

    def __init__(self, config: TunConfig) -> None:
        super().__init__(config.name, config.mtu)
        self._wanted = wanted(config)
        self._given = config.fd
        self._unit = unit_of(config)

    async def _open(self) -> int:
        self._addresses = self._wanted.addresses
        if self._given >= 0:
            os.set_blocking(self._given, False)
            return self._given
        fd, self.name = _open_device(self._unit)
        try:
            for command in commands(self.name, self._wanted):
                _run(command)
        except BaseException:
            os.close(fd)
            raise
        return fd

    async def _undo(self) -> None:
        """All goes with the device."""

    @property
    def _can_come_back(self) -> bool:
        return self._given < 0

    def _fill(self) -> Filled:
        """The family's octets come to lie on the end of a record's head, which says nothing here."""
        fd, buffer, view, at, count = self._fd, self._buffer, self._view, 0, 0
        behind = 4 + OFFLOAD_OCTETS - _FAMILY_OCTETS
        try:
            while at <= ROOM_UNTIL:
                octets = os.readv(fd, (view[at + behind :],)) - _FAMILY_OCTETS
                if octets <= 0:
                    return Filled(at, count, "end of file")
                view[at + 4 : at + 4 + OFFLOAD_OCTETS] = NO_OFFLOAD
                _LENGTH.pack_into(buffer, at, OFFLOAD_OCTETS + octets)
                at += 4 + OFFLOAD_OCTETS + octets
                count += 1
        except BlockingIOError:
            pass
        except OSError as error:
            return Filled(at, count, error.strerror or str(error))
        return Filled(at, count, "")

    def write(self, batch: PacketBatch) -> None:
        """One call a packet as it crosses a wire."""
        for offload, packet in batch.records():
            try:
                packets = split(offload, packet)
            except MalformedError:
                self._counts["malformed"] += 1
                continue
            for each in packets:
                self._write(each)

    def _write(self, packet: bytes) -> None:
        family = FAMILIES.get(packet[0] >> 4 if packet else 0)
        if family is None:
            self._counts["malformed"] += 1
            return
        try:
            os.writev(self._fd, (family, packet))
        except OSError:  # also while it is not open
            self._counts["dropped"] += 1
        else:
            self._counts["packets_in"] += 1
            self._counts["octets_in"] += len(packet)


def unit_of(config: TunConfig) -> int:
    """What the kernel is asked for: 0 is the first free number, n is utun(n-1). Raises: ConfigError."""
    number = config.name.removeprefix("utun")
    if config.device or config.behind is not None or (config.name and not (number.isdecimal() and number.isascii())):
        raise ConfigError("tun: on macOS an interface is called utun with a number, and joins no device nor network")
    return int(number) + 1 if config.name else 0


def commands(name: str, wanted: Wanted) -> Iterator[list[str]]:
    """What configures it: ifconfig(8), route(8) of macOS. A utun is a link between two: it needs a far end for IPv4."""
    yield ["ifconfig", name, "mtu", str(wanted.mtu), "up"]
    for address in wanted.addresses:
        here = str(address.ip)
        if address.version == 4:
            yield ["ifconfig", name, "inet", here, here, "netmask", str(address.netmask), "alias"]
            yield ["route", "-n", "add", "-net", str(address.network), "-interface", name]
        else:
            yield ["ifconfig", name, "inet6", here, "prefixlen", str(address.network.prefixlen), "alias"]
    for network in wanted.routes:
        family = "-inet" if network.version == 4 else "-inet6"
        yield ["route", "-n", "add", family, str(network), "-interface", name]


def _open_device(unit: int) -> tuple[int, str]:
    """Its descriptor and its name. Raises: TumplineError."""
    try:
        with socket.socket(PF_SYSTEM, socket.SOCK_DGRAM, SYSPROTO_CONTROL) as sock:
            info = bytearray(_INFO.pack(0, UTUN_CONTROL_NAME))
            fcntl.ioctl(sock, CTLIOCGINFO, info)
            sock.connect((_INFO.unpack(info)[0], unit))
            name = sock.getsockopt(SYSPROTO_CONTROL, UTUN_OPT_IFNAME, _NAME_OCTETS).rstrip(b"\0").decode()
            sock.setblocking(False)
            return sock.detach(), name
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise TumplineError(f"there is an interface utun{unit - 1} already; choose another name") from None
        raise TumplineError(f"utun cannot be opened: {error.strerror}; be root (sudo)") from None


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TumplineError(f"{' '.join(command)} failed: {' '.join((done.stderr or done.stdout).split())}")
