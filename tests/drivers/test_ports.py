"""Every registered port passes the suite of ports, in front of a rig of its kind."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import termios
import tty
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest

from tumpline.drivers import ports
from tumpline.drivers.ports._api import PacketPort, PortSpec
from tumpline.drivers.ports.memory import MemoryPort, MemoryPortConfig
from tumpline.drivers.ports.serial import SerialConfig, SerialPort
from tumpline.drivers.ports.tun import TunConfig, TunPort
from tumpline.machines.slip_line import SlipLine
from tumpline.testing.conformance.ports import PortConformance, PortRig
from tumpline.testing.own_network import own_network
from tumpline.wire.slip import encode_slip
from tumpline.wire.virtio_net import sum_of

ETH_P_IP = 0x0800
PROTOCOL = 253  # for experiments (RFC 3692): the kernel does not answer it
READ_OCTETS = 1 << 16


def datagram(number: int) -> bytes:
    """For this machine, from beyond the overlay."""
    head = bytes([0x45, 0, 0, 24, 0, 0, 0, 0, 64, PROTOCOL, 0, 0, 10, 2, 0, 2, 10, 2, 0, 1])
    checksum = -sum_of(head) % 0xFFFF
    return head[:10] + checksum.to_bytes(2, "big") + head[12:] + number.to_bytes(4, "big")


class MemoryRig:
    is_device = False

    def __init__(self) -> None:
        self._port: MemoryPort

    def open(self) -> PacketPort:
        self._port = MemoryPort(MemoryPortConfig())
        return self._port

    def packet(self, number: int) -> bytes:
        return datagram(number)

    def put(self, packets: list[bytes]) -> None:
        self._port.put(packets)

    def taken(self) -> list[bytes]:
        taken = list(self._port.taken)
        self._port.taken.clear()
        return taken

    def close(self) -> None:
        pass


class TunRig:
    """An interface: all that it is given (AF_PACKET), and all that comes out of it for this machine (a raw socket)."""

    is_device = True
    NAME = "overlay"

    def __init__(self) -> None:
        self._out = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._in = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)

    def open(self) -> PacketPort:
        return TunPort(TunConfig(name=self.NAME, addresses=["10.2.0.1/24"]))

    def packet(self, number: int) -> bytes:
        return datagram(number)

    def put(self, packets: list[bytes]) -> None:
        for packet in packets:
            self._out.sendto(packet, (self.NAME, ETH_P_IP))

    def taken(self) -> list[bytes]:
        found: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._in.recv(READ_OCTETS))
        return found

    def close(self) -> None:
        self._out.close()
        self._in.close()


class SerialRig:
    """The other end of a pseudo-terminal: raw SLIP."""

    is_device = True

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave, termios.TCSANOW)
        os.set_blocking(self._master, False)
        self._slave = slave  # held: without any holder, reading the other end fails
        self._line = SlipLine()

    def open(self) -> PacketPort:
        return SerialPort(SerialConfig(device=os.ttyname(self._slave)))

    def packet(self, number: int) -> bytes:
        return bytes([0x41, 0x88, number, 0xCD, 0xAB, 0xFF, 0xFF, 1, 0, 0xC0, 0xDB])

    def put(self, packets: list[bytes]) -> None:
        os.write(self._master, b"".join(map(encode_slip, packets)))

    def taken(self) -> list[bytes]:
        with contextlib.suppress(BlockingIOError):
            return self._line.receive(os.read(self._master, READ_OCTETS))
        return []

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)


class TestMemory(PortConformance):
    @pytest.fixture
    def rig(self) -> PortRig:
        return MemoryRig()


class TestTun(PortConformance):
    @pytest.fixture
    def rig(self) -> Iterator[PortRig]:
        with own_network():
            rig = TunRig()
            yield rig
            rig.close()


class TestSerial(PortConformance):
    @pytest.fixture
    def rig(self) -> Iterator[PortRig]:
        rig = SerialRig()
        yield rig
        rig.close()


def test_every_port_is_tried() -> None:
    names = [module.name for module in iter_modules(ports.__path__) if not module.name.startswith("_")]
    specs: list[PortSpec] = [import_module(f"{ports.__name__}.{name}").SPEC for name in names]
    assert sorted(spec.scheme for spec in specs) == ["memory", "serial", "tun"]
