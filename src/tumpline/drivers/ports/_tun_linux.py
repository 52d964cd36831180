"""TUN devices of Linux: /dev/net/tun, Documentation/networking/tuntap.rst. Opened here, configured elsewhere."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from struct import Struct
from typing import Final, NamedTuple

from tumpline.errors import TumplineError

DEVICE: Final = "/dev/net/tun"
# linux/if_tun.h
TUNSETIFF: Final = 0x400454CA
TUNSETOFFLOAD: Final = 0x400454D0
TUNGETIFF: Final = 0x800454D2
TUNSETVNETHDRSZ: Final = 0x400454D8
TUNSETVNETLE: Final = 0x400454DC
IFF_TUN: Final = 0x0001
IFF_TUN_MASK: Final = 0x000F
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
IFF_MULTI_QUEUE: Final = 0x0100
IFF_TUN_EXCL: Final = 0x8000
_CHECKSUMS_AND_TCP: Final = 0x01 | 0x02 | 0x04 | 0x08  # CSUM, TSO4, TSO6, TSO_ECN
_UDP: Final = 0x20 | 0x40  # USO4, USO6: kernels before 6.2 do not know them
_REQUEST: Final = Struct("=16sH22x")  # struct ifreq: name, flags
_INT: Final = Struct("=i")
_HEADER_OCTETS: Final = 10
NAME_OCTETS_MOST: Final = 15

# The kernel writes the first free number in place of %d: names of several never clash.
NAME_TEMPLATE: Final = "tumpline%d"


class TunDevice(NamedTuple):
    """An open device. Who made it by opening it ends it by closing `fd`, and with it its addresses and routes."""

    fd: int
    name: str
    is_ours: bool  # made by us, and gone with us


def make_device(name: str) -> TunDevice:
    """A new interface. Raises: TumplineError, also if there is one of that name."""
    try:
        return _opened(name or NAME_TEMPLATE, IFF_TUN_EXCL, is_ours=True)
    except OSError as error:
        raise TumplineError(_why_not_made(name or NAME_TEMPLATE, error)) from None


def join_device(name: str) -> TunDevice:
    """One that somebody made for us (`ip tuntap add`). Raises: TumplineError."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        raise TumplineError(f"there is no interface {name}; make it, as root: {premade(name)}") from None
    try:
        return _opened(name, 0, is_ours=False)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise TumplineError(_why_not_joined(name, error)) from None
    try:
        return _opened(name, IFF_MULTI_QUEUE, is_ours=False)
    except OSError as error:
        raise TumplineError(_why_not_joined(name, error)) from None


def adopt_device(fd: int) -> TunDevice:
    """One that is open already. It is closed with the port. Raises: TumplineError."""
    request = bytearray(_REQUEST.size)
    try:
        fcntl.ioctl(fd, TUNGETIFF, request)
    except OSError as error:
        raise TumplineError(f"file descriptor {fd} is no TUN device: {error.strerror}; pass an open one") from None
    name, flags = _REQUEST.unpack(request)
    wanted = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
    if flags & (IFF_TUN_MASK | IFF_NO_PI | IFF_VNET_HDR) != wanted:
        raise TumplineError(f"the device of file descriptor {fd} is opened otherwise: IFF_TUN, IFF_NO_PI, IFF_VNET_HDR")
    _set_up(fd)
    return TunDevice(fd, _text(name), False)


def only_whole_packets(device: TunDevice) -> None:
    """From now on the kernel cuts and sums what it gives, as for a wire; what it is given may be super-packets all the same."""
    fcntl.ioctl(device.fd, TUNSETOFFLOAD, 0)


def premade(name: str) -> str:
    """The command that makes a device for this user."""
    return f"ip tuntap add dev {name} mode tun user {os.getuid()} vnet_hdr"


def _opened(name: str, flags: int, is_ours: bool) -> TunDevice:
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        request = bytearray(_REQUEST.pack(name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | flags))
        fcntl.ioctl(fd, TUNSETIFF, request)
        _set_up(fd)
    except OSError:
        os.close(fd)
        raise
    return TunDevice(fd, _text(_REQUEST.unpack(request)[0]), is_ours)


def _set_up(fd: int) -> None:
    """Headers as wire/virtio_net has them, and all that the kernel may leave to us."""
    os.set_blocking(fd, False)
    fcntl.ioctl(fd, TUNSETVNETHDRSZ, _INT.pack(_HEADER_OCTETS))
    fcntl.ioctl(fd, TUNSETVNETLE, _INT.pack(1))
    try:
        fcntl.ioctl(fd, TUNSETOFFLOAD, _CHECKSUMS_AND_TCP | _UDP)
    except OSError:
        fcntl.ioctl(fd, TUNSETOFFLOAD, _CHECKSUMS_AND_TCP)


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode(errors="surrogateescape")


def _why_not_made(name: str, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"there is an interface {name} already; choose another name, or join it as a device (--device {name})"
    name = name.replace("%d", "0")
    if error.errno in (errno.EPERM, errno.EACCES):
        by_hand = premade(name)
        return (
            f"interface {name} needs the right to make it (CAP_NET_ADMIN, and to open {DEVICE}): be root, use "
            f"`tumpline run -- COMMAND`, or have root make one: {by_hand}"
        )
    return _no_device(error) or f"interface {name} cannot be made: {error.strerror}"


def _why_not_joined(name: str, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"another process has interface {name} open; end it, or choose another device"
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"interface {name} is not for this user; make it, as root: {premade(name)}"
    if error.errno == errno.EINVAL:
        return f"interface {name} is no TUN device; make one, as root: {premade(name)}"
    return _no_device(error) or f"interface {name} cannot be joined: {error.strerror}"


def _no_device(error: OSError) -> str:
    if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return ""
    return f"this machine has no {DEVICE}: modprobe tun, or start the container with --device {DEVICE} and NET_ADMIN"
