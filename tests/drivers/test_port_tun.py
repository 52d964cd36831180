"""TUN devices in networks of their own: the kernel sends and receives, and says what it thinks of it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.ports._tun_linux import make_device
from tumpline.drivers.ports.tun import BehindConfig, TunConfig, TunPort
from tumpline.errors import ConfigError, TumplineError
from tumpline.machines.packets import NO_OFFLOAD, PacketBatch, PacketKind, batch_of
from tumpline.testing.nobody import NOBODY, as_nobody
from tumpline.testing.own_network import OwnNetwork, ip, own_network
from tumpline.testing.recording_port import RecordingPortHost
from tumpline.wire import pcapng
from tumpline.wire.virtio_net import split

A, B = ["bbbb::1/64", "10.2.0.1/24"], ["bbbb::2/64", "10.2.0.2/24"]
STREAM_OCTETS = 3_000_000


@pytest.fixture(autouse=True)
def network() -> Iterator[OwnNetwork]:
    with own_network() as network:
        yield network


async def started(**config: Any) -> tuple[TunPort, RecordingPortHost]:
    port, host = TunPort(TunConfig(**config)), RecordingPortHost()
    await port.start(host)
    return port, host


class Wire(RecordingPortHost):
    """Whatever comes out of one port goes into another: as it is, or as it would cross a wire."""

    def __init__(self, to: TunPort, is_split: bool) -> None:
        super().__init__()
        self._to, self._is_split = to, is_split

    def from_port(self, batch: PacketBatch) -> None:
        super().from_port(batch)
        if self._is_split:
            batch = batch_of(batch.kind, [each for record in batch.records() for each in split(*record)])
        self._to.write(batch)


# ---- packets ---------------------------------------------------------------------------------------------------------


async def test_what_a_program_sends_comes_out_and_what_comes_from_there_goes_in() -> None:
    port, host = await started(addresses=A, link_local="fe80::1/64")
    assert host.up == [{"name": "tumpline0", "addresses": ["bbbb::1/64", "10.2.0.1/24", "fe80::1/64"], "mtu": 1500}]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("bbbb::1", 7000))
        sock.sendto(b"hello", ("bbbb::2", 7000))
        (packet,) = await host.packets(1)
        assert packet.endswith(b"hello")
        # The other way round it has the same checksum.
        port.write(batch_of(PacketKind.IP, [packet[:8] + packet[24:40] + packet[8:24] + packet[40:]]))
        sock.settimeout(5)
        assert sock.recvfrom(100)[0] == b"hello"
    counts = port.describe()
    assert (counts["packets_out"], counts["octets_out"], counts["packets_in"], counts["octets_in"]) == (1, 53, 1, 53)
    await port.stop()
    await port.stop()
    assert "tumpline0" not in ip("-o", "link")


@pytest.mark.parametrize("is_split", [False, True], ids=["super-packets", "packets"])
@pytest.mark.parametrize("ends", [("10.2.0.1", "10.2.0.2"), ("bbbb::1", "bbbb::2")], ids=["IPv4", "IPv6"])
async def test_a_stream_comes_over_whole(network: OwnNetwork, ends: tuple[str, str], is_split: bool) -> None:
    other = OwnNetwork()
    a, b = TunPort(TunConfig(addresses=A)), TunPort(TunConfig(addresses=B))
    there, back = Wire(b, is_split), Wire(a, is_split)
    await a.start(there)
    with other.inside():
        await b.start(back)
        listening = socket.create_server((ends[1], 7000), family=a_family(ends))
    with listening, socket.socket(a_family(ends)) as sender:
        sent = os.urandom(STREAM_OCTETS)
        came, _ = await asyncio.wait_for(asyncio.gather(all_of(listening), send_all(sender, (ends[1], 7000), sent)), 30)
        assert came == sent
    assert max(len(packet) for _, packet in there.records) > 20_000  # a call carried many packets
    assert b.describe()["malformed"] == b.describe()["dropped"] == 0
    await a.stop()
    await b.stop()
    other.close()


def a_family(ends: tuple[str, str]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ends[0] else socket.AF_INET


async def all_of(listening: socket.socket) -> bytes:
    """What the first one who connects sends."""
    loop, came = asyncio.get_running_loop(), bytearray()
    listening.setblocking(False)
    connected, _ = await loop.sock_accept(listening)
    with connected:
        while octets := await loop.sock_recv(connected, 1 << 16):
            came += octets
    return bytes(came)


async def send_all(sock: socket.socket, to: tuple[str, int], octets: bytes) -> None:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    await loop.sock_connect(sock, to)
    await loop.sock_sendall(sock, octets)
    sock.shutdown(socket.SHUT_WR)


async def test_where_packets_leave_one_by_one_the_kernel_cuts_and_sums_them(network: OwnNetwork) -> None:
    other = OwnNetwork()
    a, b = TunPort(TunConfig(addresses=A, super_packets=False)), TunPort(TunConfig(addresses=B))
    there, back = Wire(b, is_split=False), Wire(a, is_split=False)  # what b gives are super-packets all the same
    await a.start(there)
    with other.inside():
        await b.start(back)
        listening = socket.create_server(("10.2.0.2", 7000))
    with listening, socket.socket() as sender:
        sent = os.urandom(STREAM_OCTETS)
        came, _ = await asyncio.wait_for(
            asyncio.gather(all_of(listening), send_all(sender, ("10.2.0.2", 7000), sent)), 30
        )
        assert came == sent
    assert {offload for offload, _ in there.records} == {NO_OFFLOAD}
    assert max(len(packet) for _, packet in there.records) == 1500
    await a.stop()
    await b.stop()
    other.close()


async def test_one_wake_brings_all_that_waits() -> None:
    port, host = await started(addresses=A)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(100):
            sock.sendto(b"%d" % number, ("10.2.0.2", 7000))
        await host.packets(100)
    assert host.batches == [100]
    await port.stop()


async def test_paused_it_leaves_packets_in_the_kernel_which_keeps_few() -> None:
    port, host = await started(addresses=A, queue_packets=10)
    port.pause()
    port.pause()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(50):
            sock.sendto(b"x", ("10.2.0.2", 7000))
        assert not host.records
        port.resume()
        port.resume()
        sock.sendto(b"last", ("10.2.0.2", 7000))
        await host.until(
            lambda: any(packet.endswith(b"last") for _, packet in host.records) or len(host.records) == 10, "10"
        )
    assert 10 <= len(host.records) <= 11
    await port.stop()


async def test_what_is_no_packet_is_counted() -> None:
    port, _ = await started(addresses=A)
    port.write(batch_of(PacketKind.IP, [b"\x00nothing", b"\x45" + bytes(19)]))
    assert port.describe()["malformed"] == 1
    port.write(PacketBatch(PacketKind.IP, memoryview(b"\x0b\0\0\0" + b"\xff" * 10 + b"\x45"), 1))
    assert port.describe()["malformed"] == 2
    ip("link", "set", "tumpline0", "down")
    port.write(batch_of(PacketKind.IP, [b"\x45" + bytes(19)]))
    assert port.describe()["dropped"] == 1
    await port.stop()
    port.write(batch_of(PacketKind.IP, [b"\x45" + bytes(19)]))
    assert port.describe()["dropped"] == 2


# ---- what a wire would carry -----------------------------------------------------------------------------------------

UDP_SEGMENT = 103  # linux/udp.h
CHECKSUMS = ["ip.checksum.status", "tcp.checksum.status", "udp.checksum.status"]


@pytest.mark.parametrize("to", ["10.2.0.2", "bbbb::2"])
async def test_datagrams_of_one_call_are_cut_as_a_wire_has_them(to: str, tmp_path: Path) -> None:
    port, host = await started(addresses=A)
    with socket.socket(a_family((to, to)), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1001)
        sock.sendto(bytes(range(250)) * 40, (to, 7000))
        packets = await host.packets(10)
    await port.stop()
    assert len(host.records) == 1, "the kernel cut it"
    assert b"".join(packet[-(len(packet) - 28 - 20 * (":" in to)) :] for packet in packets) == bytes(range(250)) * 40
    rows = shown(tmp_path, packets, *CHECKSUMS, "udp.length")
    assert [row[2:] for row in rows] == [["1", "1009"]] * 9 + [["1", "999"]]
    assert {row[0] for row in rows} == {"1" if ":" not in to else ""}


@pytest.mark.parametrize("to", ["10.2.0.2", "bbbb::2"])
async def test_a_stream_is_cut_as_a_wire_has_it(to: str, tmp_path: Path) -> None:
    other = OwnNetwork()
    a, b = TunPort(TunConfig(addresses=A)), TunPort(TunConfig(addresses=B))
    there = Wire(b, False)
    await a.start(there)
    with other.inside():
        await b.start(Wire(a, False))
        listening = socket.create_server((to, 7000), family=a_family((to, to)))
    with listening, socket.socket(a_family((to, to))) as sender:
        sent = os.urandom(200_000)
        await asyncio.gather(all_of(listening), send_all(sender, (to, 7000), sent))
    packets = [packet for record in there.records for packet in split(*record)]
    rows = shown(tmp_path, packets, *CHECKSUMS, "tcp.analysis.lost_segment", "frame.len")
    assert {row[1] for row in rows} == {"1"}
    assert {row[0] for row in rows} == {"1" if ":" not in to else ""}
    assert not any(row[3] for row in rows)
    assert max(int(row[4]) for row in rows) == 1500
    for end in (a, b):
        await end.stop()
    other.close()


def shown(directory: Path, packets: list[bytes], *fields: str) -> list[list[str]]:
    """What tshark has for each packet."""
    path = directory / "packets.pcapng"
    blocks = [pcapng.section("tests"), pcapng.interface(pcapng.LinkType.RAW_IP, "tun")]
    path.write_bytes(b"".join(blocks + [pcapng.packet(0, 0, packet) for packet in packets]))
    command = ["tshark", "-r", str(path), "-T", "fields", *(f"-e{field}" for field in fields)]
    command += [f"-o{protocol}.check_checksum:TRUE" for protocol in ("ip", "tcp", "udp")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


# ---- interfaces ------------------------------------------------------------------------------------------------------


async def test_names_never_clash() -> None:
    ports = [(await started())[0] for _ in range(3)]
    assert [port.name for port in ports] == ["tumpline0", "tumpline1", "tumpline2"]
    with pytest.raises(TumplineError, match="there is an interface tumpline1 already; choose another name"):
        await started(name="tumpline1")
    for port in ports:
        await port.stop()


async def test_the_kernel_sends_nothing_of_its_own() -> None:
    port, host = await started(addresses=A, link_local="fe80::1/64")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("10.2.0.2", 7000))
        await host.until(lambda: len(host.records) > 0, "a packet")
    # But for the groups that it joins (MLDv2), which is what routers of multicast ask for.
    assert all(packet[0] >> 4 == 4 or packet[6] == 0 for _, packet in host.records)
    assert "tentative" not in ip("address", "show", "dev", "tumpline0")
    await port.stop()


async def test_a_device_that_was_made_before_is_left_as_it_was() -> None:
    ip("tuntap", "add", "dev", "mine", "mode", "tun", "vnet_hdr")
    ip("address", "add", A[0], "dev", "mine", "nodad")
    port, host = await started(device="mine", addresses=A, routes=["cccc::/64"])
    assert host.up[0]["addresses"][:2] == A
    assert "cccc::/64 dev mine" in ip("-6", "route")
    await port.stop()
    left = ip("-o", "address", "show", "dev", "mine", "scope", "global")
    assert "bbbb::1/64" in left
    assert "10.2.0.1" not in left
    assert "cccc::/64" not in ip("-6", "route")


async def test_routes_and_mtu() -> None:
    port, _ = await started(addresses=A, routes=["cccc::/64", "192.0.2.0/24"], mtu=1280)
    assert "mtu 1280" in ip("link", "show", "dev", "tumpline0")
    assert "192.0.2.0/24 dev tumpline0" in ip("route")
    assert "cccc::/64 dev tumpline0" in ip("-6", "route")
    await port.stop()


async def test_a_device_that_somebody_deletes_comes_again() -> None:
    port, host = await started(addresses=A)
    ip("link", "delete", "tumpline0")
    await host.until(lambda: bool(host.down), "the end")
    assert host.down[0].startswith("interface tumpline0 is gone")
    port.write(batch_of(PacketKind.IP, [b"x"]))
    assert port.describe()["dropped"] == 1
    await host.until(lambda: len(host.up) == 2, "its return")
    assert host.up[1] == host.up[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("10.2.0.2", 7000))
        await host.packets(1)
    await port.stop()


async def test_a_device_that_is_gone_for_good_is_looked_for_until_the_end() -> None:
    ip("tuntap", "add", "dev", "mine", "mode", "tun")
    port, host = await started(device="mine", addresses=A)
    ip("link", "delete", "mine")
    await host.until(lambda: bool(host.down), "the end")
    await port.stop()
    assert len(host.up) == 1


async def test_a_device_that_comes_open() -> None:
    made = make_device("")
    port, host = await started(fd=made.fd, addresses=A)
    assert host.up == [{"name": "tumpline0", "addresses": A, "mtu": 1500}]
    assert "10.2.0.1" not in ip("address", "show", "dev", "tumpline0")  # whoever opened it configures it
    port.write(batch_of(PacketKind.IP, [b"\0"]))
    ip("link", "delete", "tumpline0")
    await port.stop()
    assert not os.path.exists(f"/proc/self/fd/{made.fd}")


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"device": "absent"}, "there is no interface absent; make it, as root: ip tuntap add dev absent mode tun"),
        ({"device": "lo"}, "interface lo is no TUN device"),
        ({"addresses": A, "routes": ["10.2.0.0/24"]}, "there is a route to 10.2.0.0/24 already; ip route del 10.2.0.0"),
        ({"addresses": A, "behind": BehindConfig(interface="absent")}, "there is no interface absent"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_opened_leaves_nothing(config: dict[str, Any], error: str) -> None:
    before = ip("-o", "link"), ip("route")
    with pytest.raises(TumplineError, match=error):
        await started(**config)
    assert (ip("-o", "link"), ip("route")) == before


async def test_no_descriptor_of_a_tun() -> None:
    with open("/dev/null") as null, pytest.raises(TumplineError, match="is no TUN device"):
        await started(fd=null.fileno())


async def test_where_ipv6_is_off_the_kernel_says_so() -> None:
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    with pytest.raises(TumplineError, match=r"interface tumpline0 cannot be configured: .*IPv6 is disabled"):
        await started(addresses=A)
    port, _ = await started(addresses=["10.2.0.1/24"])
    await port.stop()


# As an ordinary user: what is open to users as udev has it, and what root has made for this user.
USERS = """
mount -t tmpfs tmpfs /mnt && mknod -m 666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun && umount -l /mnt
exec "$@"
"""
USER = """
import asyncio, sys
from tumpline.drivers.ports.tun import TunConfig, TunPort
from tumpline.errors import TumplineError
from tumpline.testing.recording_port import RecordingPortHost

async def main():
    for device in (sys.argv[1], ""):
        host, port = RecordingPortHost(), TunPort(TunConfig(device=device, addresses=["10.2.0.1/24"]))
        try:
            await port.start(host)
        except TumplineError as error:
            print(error)
        else:
            print(host.up[0]["addresses"])
            await port.stop()

asyncio.run(main())
"""


def test_an_ordinary_user_needs_a_device_that_root_made() -> None:
    ip("tuntap", "add", "dev", "mine", "mode", "tun", "user", f"{NOBODY}", "vnet_hdr")
    command = ["unshare", "--mount", "sh", "-c", USERS, "sh", *as_nobody([sys.executable, "-c", USER, "mine"])]

    def said() -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.splitlines()

    unconfigured, none = said()
    assert unconfigured.startswith("this user may not configure interface mine; let root do it: ip tuntap add dev mine")
    assert "ip address add 10.2.0.1/24 dev mine" in unconfigured
    assert "needs the right to make it" in none
    assert "tumpline run -- COMMAND" in none
    ip("link", "set", "mine", "up")
    ip("address", "add", "10.2.0.1/24", "dev", "mine")
    assert said()[0].startswith("['10.2.0.1/24'")


def test_every_mistake_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        TunPort(
            TunConfig(
                name="a/b", device="x" * 16, addresses=["bbbb::g/64"], link_local="bbbb::1/64", routes=["10.2.0.1/24"]
            )
        )
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "tun",
        "tun.name",
        "tun.device",
        "tun.addresses",
        "tun.link_local",
        "tun.routes",
    ]
