"""The utun of macOS, by the octets of its documentation: a pair of datagram sockets is the kernel."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from tumpline.drivers.ports._tun_config import TunConfig, wanted
from tumpline.drivers.ports._utun import UtunPort, commands, unit_of
from tumpline.errors import ConfigError
from tumpline.machines.packets import NO_OFFLOAD, PacketKind, batch_of, batch_of_records
from tumpline.testing.recording_port import RecordingPortHost
from tumpline.wire.virtio_net import NEEDS_CSUM, Offload

IPV4, IPV6 = bytes([0x45]) + bytes(19), bytes([0x60]) + bytes(39)
INET, INET6 = bytes([0, 0, 0, 2]), bytes([0, 0, 0, 30])


class Kernel:
    def __init__(self) -> None:
        self.socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.host = RecordingPortHost()
        self.port = UtunPort(TunConfig(fd=other.detach(), addresses=["bbbb::1/64"]))


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    kernel = Kernel()
    await kernel.port.start(kernel.host)
    yield kernel
    await kernel.port.stop()
    kernel.socket.close()


async def test_packets_out_and_in(kernel: Kernel) -> None:
    kernel.socket.send(INET + IPV4)
    kernel.socket.send(INET6 + IPV6)
    await kernel.host.packets(2)
    assert kernel.host.records == [(NO_OFFLOAD, IPV4), (NO_OFFLOAD, IPV6)]
    kernel.port.write(batch_of(PacketKind.IP, [IPV4, IPV6, b"\0nothing"]))
    assert [kernel.socket.recv(100), kernel.socket.recv(100)] == [INET + IPV4, INET6 + IPV6]
    counts = kernel.port.describe()
    assert (counts["packets_out"], counts["octets_out"], counts["packets_in"], counts["octets_in"]) == (2, 60, 2, 60)
    assert counts["malformed"] == 1


async def test_super_packets_are_cut(kernel: Kernel) -> None:
    udp = IPV4 + bytes(8) + b"x" * 30
    how = Offload(NEEDS_CSUM, 5, 0, 10, 20, 6).encode()
    kernel.port.write(batch_of_records(PacketKind.IP, [(how, udp), (how[:6] + bytes(4), udp)]))
    assert [len(kernel.socket.recv(100)) for _ in range(3)] == [4 + 20 + 8 + 10] * 3
    assert kernel.port.describe()["malformed"] == 1


async def test_what_the_kernel_does_not_take_is_dropped(kernel: Kernel) -> None:
    kernel.socket.close()
    kernel.port.write(batch_of(PacketKind.IP, [IPV4]))
    assert kernel.port.describe()["dropped"] == 1


def test_how_it_is_configured() -> None:
    told = TunConfig(addresses=["10.2.0.1/24"], link_local="fe80::1/64", routes=["cccc::/64", "192.0.2.0/24"])
    assert [" ".join(command) for command in commands("utun7", wanted(told))] == [
        "ifconfig utun7 mtu 1500 up",
        "ifconfig utun7 inet 10.2.0.1 10.2.0.1 netmask 255.255.255.0 alias",
        "route -n add -net 10.2.0.0/24 -interface utun7",
        "ifconfig utun7 inet6 fe80::1 prefixlen 64 alias",
        "route -n add -inet6 cccc::/64 -interface utun7",
        "route -n add -inet 192.0.2.0/24 -interface utun7",
    ]


def test_names() -> None:
    assert unit_of(TunConfig()) == 0
    assert unit_of(TunConfig(name="utun0")) == 1
    for wrong in (TunConfig(name="tun0"), TunConfig(device="utun1")):
        with pytest.raises(ConfigError, match="on macOS an interface is called utun with a number"):
            unit_of(wrong)
