"""A command in a network of its own, whose packets this process carries."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tumpline.drivers.apart import CommandApart
from tumpline.drivers.ports.tun import TunConfig, TunPort
from tumpline.errors import TumplineError
from tumpline.machines.packets import PacketBatch, batch_of
from tumpline.testing.nobody import as_nobody
from tumpline.testing.recording_port import RecordingPortHost
from tumpline.wire.virtio_net import split

CONFIG = TunConfig(addresses=["10.2.0.1/24", "bbbb::1/64"], link_local="fe80::1/64")


class Answering(RecordingPortHost):
    """The overlay: whoever is sent an echo request over IPv4 answers it."""

    port: TunPort

    def from_port(self, batch: PacketBatch) -> None:
        super().from_port(batch)
        packets = [packet for record in batch.records() for packet in split(*record)]
        echoes = [packet for packet in packets if packet[0] >> 4 == 4 and packet[9] == 1]
        # An answer is 8 less than the request, and its sum so much more (RFC 792).
        answers = [
            each[:12] + each[16:20] + each[12:16] + b"\0\0" + _plus(each[22:24], 0x0800) + each[24:] for each in echoes
        ]
        self.port.write(batch_of(batch.kind, answers))


def _plus(checksum: bytes, value: int) -> bytes:
    total = int.from_bytes(checksum, "big") + value
    return ((total & 0xFFFF) + (total >> 16)).to_bytes(2, "big")


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[tuple[CommandApart, Answering]]:
    apart = await CommandApart.prepare(CONFIG, command)
    host = Answering()
    host.port = TunPort(TunConfig(fd=apart.fd, addresses=CONFIG.addresses))
    await host.port.start(host)
    apart.go()
    try:
        yield apart, host
    finally:
        await apart.end()
        await host.port.stop()


async def test_it_reaches_the_overlay() -> None:
    async with running("ping", "-q", "-c", "3", "-i", "0.01", "-W", "5", "10.2.0.2") as (apart, host):
        assert apart.name == "tumpline0"
        assert await apart.wait() == 0
        assert host.port.describe()["packets_in"] == 3


async def test_and_nothing_else_of_this_machine(tmp_path: Path) -> None:
    out = tmp_path / "links"
    async with running("sh", "-c", f"ip -o link > {out}; exit 7") as (apart, _):
        assert await apart.wait() == 7
    assert [line.split()[1] for line in out.read_text().splitlines()] == ["lo:", "tumpline0:"]


@pytest.mark.parametrize(("command", "code"), [("/absent", 127), ("/etc/passwd", 126)])
async def test_what_cannot_be_run(command: str, code: int) -> None:
    async with running(command) as (apart, _):
        assert await apart.wait() == code


async def test_it_ends_with_the_agent() -> None:
    async with running("sleep", "60") as (apart, _):
        pass
    assert await apart.wait() == 128 + signal.SIGTERM


async def test_before_it_was_to_go() -> None:
    apart = await CommandApart.prepare(CONFIG, ["true"])
    os.close(apart.fd)
    await apart.end()
    assert await apart.wait() in (1, 128 + signal.SIGTERM)


async def test_addresses_that_cannot_be() -> None:
    with pytest.raises(TumplineError, match=r"tun\.addresses"):
        await CommandApart.prepare(TunConfig(addresses=["x"]), ["true"])


# As an ordinary user, and where the device is open to users as udev has it.
USERS = """
mount -t tmpfs tmpfs /mnt && mknod -m 666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun && umount -l /mnt
exec "$@"
"""
USER = """
import asyncio, os, sys
from tumpline.drivers.apart import CommandApart
from tumpline.drivers.ports.tun import TunConfig

async def main():
    script = "id -u; ip -o address show dev tumpline0; grep CapEff /proc/self/status; ping -q -c1 -W1 127.0.0.1"
    apart = await CommandApart.prepare(TunConfig(addresses=["10.2.0.1/24"]), ["sh", "-c", script])
    apart.go()
    sys.exit(await apart.wait())

asyncio.run(main())
"""


def test_as_an_ordinary_user() -> None:
    command = ["unshare", "--mount", "sh", "-c", USERS, "sh", *as_nobody([sys.executable, "-c", USER])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert "inet 10.2.0.1/24" in done.stdout
    assert done.stdout.startswith("65534\n")
    assert "CapEff:\t0000000000000000" in done.stdout
    assert "1 received" in done.stdout


KILLED = """
import asyncio
from tumpline.drivers.apart import CommandApart
from tumpline.drivers.ports.tun import TunConfig

async def main():
    apart = await CommandApart.prepare(TunConfig(), ["sh", "-c", "echo $$; exec sleep 60"])
    apart.go()
    await apart.wait()

asyncio.run(main())
"""


def test_when_the_agent_is_killed_the_command_is_asked_to_end() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        command = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
        assert select.select([command], [], [], 20)[0], "the command still runs"
        os.close(command)
