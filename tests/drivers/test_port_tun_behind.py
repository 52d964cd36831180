"""A second network behind this machine: what is changed there, and that all of it is taken back, whatever ends the port."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.drivers.ports._interface import Configured
from tumpline.drivers.ports._tun_config import wanted
from tumpline.drivers.ports.tun import BehindConfig, TunConfig, TunPort
from tumpline.machines.packets import PacketKind, batch_of
from tumpline.testing.own_network import OwnNetwork, ip, own_network
from tumpline.testing.recording_port import RecordingPortHost
from tumpline.wire.virtio_net import sum_of

KEYS = Path("/proc/sys/net")
CONFIG = TunConfig(
    addresses=["bbbb::1/64", "10.2.0.1/24"],
    routes=["cccc::/64"],
    route_metric=1,
    behind=BehindConfig(interface="eth1", networks=["aaaa::/64"]),
)
# A process that holds the port until it is ended.
HOLD = """
import asyncio, json, signal, sys, msgspec
from tumpline.drivers.ports.tun import TunConfig, TunPort
from tumpline.testing.recording_port import RecordingPortHost

async def main():
    port, stop = TunPort(msgspec.json.decode(sys.argv[1], type=TunConfig)), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await port.start(RecordingPortHost())
    print("up", flush=True)
    await stop.wait()
    await port.stop()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def network() -> Iterator[OwnNetwork]:
    """With eth1, behind which host aaaa::2 is."""
    far = OwnNetwork()
    with own_network() as network:
        ip("link", "add", "eth1", "type", "veth", "peer", "name", "far", "netns", f"/proc/{os.getpid()}/fd/{far.fd}")
        ip("address", "add", "aaaa::1/64", "dev", "eth1", "nodad")
        # No address of the kernel's own, whose detection of doubles would end at some time of its own.
        ip("link", "set", "eth1", "addrgenmode", "none", "up")
        with far.inside():
            ip("address", "add", "aaaa::2/64", "dev", "far", "nodad")
            ip("link", "set", "far", "up")
            ip("route", "add", "bbbb::/64", "via", "aaaa::1")
        while "state UP" not in ip("-o", "link", "show", "eth1"):  # the kernel tells its carrier in a moment of its own
            pass
        yield network
    far.close()


def state() -> tuple[str, ...]:
    """All that might be left behind."""
    keys = sorted(KEYS.glob("ipv*/conf/*/*forwarding"))
    return (
        ip("-o", "link"),
        ip("-o", "address"),
        ip("route"),
        ip("-6", "route"),
        *(f"{k}={k.read_text()}" for k in keys),
    )


async def test_packets_go_on_to_the_second_network() -> None:
    before = state()
    port, host = TunPort(CONFIG), RecordingPortHost()
    await port.start(host)
    assert "cccc::/64 dev tumpline0 proto static metric 1" in ip("-6", "route")
    assert "aaaa::/64 dev eth1 proto static metric 1" in ip("-6", "route")
    await asyncio.to_thread(
        subprocess.run, ["ping", "-c1", "-W5", "-I", "eth1", "aaaa::2"], check=True, stdout=subprocess.DEVNULL
    )
    # An echo request (RFC 4443 §4.1) from beyond the overlay, and its answer.
    echo = bytes.fromhex("6000000000083a40" + "bbbb" + "00" * 13 + "02" + "aaaa" + "00" * 13 + "02")
    packet = echo + bytes.fromhex("8000") + checksum_of_echo(echo) + bytes.fromhex("00070001")
    port.write(batch_of(PacketKind.IP, [packet]))
    await host.until(lambda: any(packet[40:42] == b"\x81\0" for _, packet in host.records), "the answer")
    await port.stop()
    assert state() == before


def checksum_of_echo(head: bytes) -> bytes:
    total = sum_of(head[8:40]) + 8 + 58 + 0x8000 + 7 + 1
    return (-total % 0xFFFF).to_bytes(2, "big")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_process_nothing_is_left(number: signal.Signals) -> None:
    before = state()
    told = json.dumps({"addresses": CONFIG.addresses, "behind": {"interface": "eth1", "networks": ["aaaa::/64"]}})
    with subprocess.Popen([sys.executable, "-c", HOLD, told], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert state() != before
        process.send_signal(number)
    end = time.monotonic() + 10
    while state() != before and time.monotonic() < end:
        pass  # killed, its guard is still at it
    assert state() == before


async def test_without_it_nothing_is_passed_on() -> None:
    (KEYS / "ipv4/conf/default/forwarding").write_text("1")
    port = TunPort(TunConfig(addresses=["10.2.0.1/24"]))
    await port.start(RecordingPortHost())
    assert (KEYS / "ipv4/conf/tumpline0/forwarding").read_text() == "0\n"
    assert (KEYS / "ipv4/conf/tumpline0/send_redirects").read_text() == "0\n"
    await port.stop()


async def test_kernels_that_forward_for_all_interfaces_or_none(tmp_path: Path) -> None:
    for each, value in (("all", "0"), ("default", "0"), ("eth1", "0"), ("other", "1"), ("lo", "0")):
        for version in ("ipv4", "ipv6"):
            (tmp_path / version / "conf" / each).mkdir(parents=True)
            (tmp_path / version / "conf" / each / "forwarding").write_text(value)
    interface = Configured("lo", False, tmp_path)
    interface.apply(wanted(TunConfig(behind=BehindConfig(interface="eth1"))))
    assert (tmp_path / "ipv6/conf/all/forwarding").read_text() == "1"
    assert (tmp_path / "ipv4/conf/all/forwarding").read_text() == "0"
    assert (tmp_path / "ipv4/conf/eth1/forwarding").read_text() == "1"
    (tmp_path / "ipv6/conf/other/forwarding").write_text("0")  # as the kernel does when all lose it
    await interface.undo()
    assert (tmp_path / "ipv6/conf/all/forwarding").read_text() == "0"
    assert (tmp_path / "ipv6/conf/other/forwarding").read_text() == "1"
    assert (tmp_path / "ipv4/conf/eth1/forwarding").read_text() == "0"
