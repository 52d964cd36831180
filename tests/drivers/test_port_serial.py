"""The serial port over pseudo-terminals."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.ports.serial import SerialConfig, SerialPort
from tumpline.errors import TumplineError
from tumpline.machines.packets import PacketBatch, PacketKind, batch_of
from tumpline.wire.slip import encode_slip

FRAME = bytes.fromhex("418807cdabffff0100") + b"\xc0\xdbpayload"
OTHER = bytes.fromhex("418808cdabffff0200") + b"other"
HANG_S = 10.0


class Host:
    """Keeps what the port says."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.said: list[Any] = []
        self._changed = asyncio.Event()

    def from_port(self, batch: PacketBatch) -> None:
        self.frames += [bytes(record.packet) for record in batch.records()]
        self._changed.set()

    def port_up(self, **facts: Any) -> None:
        self.said.append(facts)
        self._changed.set()

    def port_down(self, reason: str) -> None:
        self.said.append(reason)
        self._changed.set()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(HANG_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Line:
    """A pseudo-terminal whose other end is the probe, behind a name that stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plug()

    def plug(self) -> None:
        self.probe, slave = os.openpty()
        os.set_blocking(self.probe, False)
        self.path.symlink_to(os.ttyname(slave))
        self._slave = slave

    def unplug(self) -> None:
        self.path.unlink()
        os.close(self._slave)
        os.close(self.probe)

    async def read(self, octets: int) -> bytes:
        data = b""
        async with asyncio.timeout(HANG_S):
            while len(data) < octets:
                ready = asyncio.Event()
                asyncio.get_running_loop().add_reader(self.probe, ready.set)
                await ready.wait()
                asyncio.get_running_loop().remove_reader(self.probe)
                data += os.read(self.probe, 65536)
        return data


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path / "ttyRADIO")


async def started(line: Line, **options: Any) -> tuple[SerialPort, Host]:
    port, host = SerialPort(SerialConfig(device=str(line.path), **options)), Host()
    await port.start(host)
    return port, host


async def test_frames_both_ways(line: Line) -> None:
    port, host = await started(line)
    assert host.said == [{"device": str(line.path), "baudrate": 115_200, "dialect": "slip", "mode": "active"}]
    os.write(line.probe, encode_slip(FRAME) + encode_slip(OTHER))
    await host.until(lambda: len(host.frames) == 2)
    assert host.frames == [FRAME, OTHER]
    port.write(batch_of(PacketKind.FRAME, [OTHER, FRAME]))
    expected = encode_slip(OTHER) + encode_slip(FRAME)
    assert await line.read(len(expected)) == expected
    await port.stop()
    line.unplug()


async def test_unplugged_and_plugged_in_again(line: Line) -> None:
    port, host = await started(line)
    for count in (1, 2):
        os.write(line.probe, encode_slip(FRAME))
        await host.until(lambda count=count: len(host.frames) == count)
        line.unplug()
        await host.until(lambda count=count: len(host.said) == 2 * count)
        assert "is gone" in host.said[-1]
        port.write(batch_of(PacketKind.FRAME, [FRAME]))
        line.plug()
        await host.until(lambda count=count: len(host.said) == 2 * count + 1)
    port.write(batch_of(PacketKind.FRAME, [OTHER]))
    assert await line.read(len(encode_slip(OTHER))) == encode_slip(OTHER)
    assert port.describe()["unplugged"] == 2
    assert port.describe()["not_sent"] == 2
    await port.stop()
    line.unplug()


async def test_what_cannot_be_opened(line: Line, tmp_path: Path) -> None:
    with pytest.raises(TumplineError, match="is not there; plug the probe in"):
        await SerialPort(SerialConfig(device=str(tmp_path / "none"))).start(Host())
    with pytest.raises(TumplineError, match="is no serial device"):
        await SerialPort(SerialConfig(device="/dev/null")).start(Host())
    with pytest.raises(TumplineError, match="cannot run at 12345 Bd; write one of: 9600, "):
        await SerialPort(SerialConfig(device=str(line.path), baudrate=12345)).start(Host())
    port, _ = await started(line)
    with pytest.raises(TumplineError, match="in use by another program"):
        await SerialPort(SerialConfig(device=str(line.path))).start(Host())
    await port.stop()
    again, _ = await started(line)
    await again.stop()
    line.unplug()
