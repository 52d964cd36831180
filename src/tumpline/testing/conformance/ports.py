"""What every packet port does, whatever device it is. A test module subclasses `PortConformance` and gives it a rig:

class TestMemory(PortConformance):
    @pytest.fixture
    def rig(self): return MemoryRig()

A rig is the machine behind a port: it puts packets to where the port reads, and takes what the port wrote.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Protocol

import pytest

from tumpline.drivers.ports._api import PacketPort
from tumpline.errors import TumplineError
from tumpline.machines.packets import PacketBatch, batch_of
from tumpline.testing.recording_port import HANG_S, RecordingPortHost

MANY = 50
# In turns of the loop: what a port might still bring after it was told to bring nothing.
A_WHILE = 20


class PortRig(Protocol):
    """The machine behind a port."""

    is_device: bool  # that a second port cannot have

    def open(self) -> PacketPort:
        """A port on the device, not started. Each call gives another one on the same device."""

    def packet(self, number: int) -> bytes:
        """A packet that the device carries, unlike those of other numbers."""

    def put(self, packets: list[bytes]) -> None:
        """The machine sends these. Only while a port is started."""

    def taken(self) -> list[bytes]:
        """What has come to the machine since the last call. Never blocks."""

    def close(self) -> None:
        """End of the test."""


class PortConformance:
    """The checks."""

    def packets(self, rig: PortRig, count: int = 3) -> list[bytes]:
        """So many different ones."""
        return [rig.packet(number) for number in range(count)]

    async def started(self, rig: PortRig) -> tuple[PacketPort, RecordingPortHost]:
        """A port in use."""
        port, host = rig.open(), RecordingPortHost()
        await port.start(host)
        return port, host

    async def all_taken(self, rig: PortRig, count: int) -> list[bytes]:
        """Once they are `count`."""
        came: list[bytes] = []
        async with asyncio.timeout(HANG_S):
            while len(came) < count:
                came += rig.taken()
                await asyncio.sleep(0)
        return came

    async def a_while(self) -> None:
        """The loop turns, and looks at its descriptors each time."""
        for _ in range(A_WHILE):
            await asyncio.sleep(0)

    async def test_it_is_up_when_it_has_started(self, rig: PortRig) -> None:
        port, host = await self.started(rig)
        assert len(host.up) == 1
        assert not host.down
        assert port.name
        json.dumps([host.up, port.describe()])
        await port.stop()

    async def test_what_the_machine_sends_comes_in_order(self, rig: PortRig) -> None:
        port, host = await self.started(rig)
        sent = self.packets(rig, MANY)
        rig.put(sent)
        assert [packet for packet in await host.packets(MANY) if packet in sent] == sent
        await port.stop()

    async def test_what_is_written_comes_in_order_to_the_machine(self, rig: PortRig) -> None:
        port, _ = await self.started(rig)
        sent = self.packets(rig, MANY)
        port.write(batch_of(port.kind, sent[:2]))
        port.write(batch_of(port.kind, sent[2:]))
        assert [packet for packet in await self.all_taken(rig, MANY) if packet in sent] == sent
        await port.stop()

    async def test_what_is_written_may_change_at_once(self, rig: PortRig) -> None:
        port, _ = await self.started(rig)
        sent = self.packets(rig, 1)
        octets = bytearray(batch_of(port.kind, sent).octets)
        port.write(PacketBatch(port.kind, memoryview(octets), 1))
        octets[:] = b"\xff" * len(octets)
        assert sent[0] in await self.all_taken(rig, 1)
        await port.stop()

    async def test_what_came_at_once_is_one_batch(self, rig: PortRig) -> None:
        port, host = await self.started(rig)
        sent = self.packets(rig, MANY)
        rig.put(sent)
        await host.packets(MANY)
        assert len(host.batches) < MANY / 4
        await port.stop()

    async def test_paused_it_brings_nothing(self, rig: PortRig) -> None:
        port, host = await self.started(rig)
        await self.a_while()
        before = len(host.records)
        port.pause()
        port.pause()
        sent = self.packets(rig)
        rig.put(sent)
        await self.a_while()
        assert len(host.records) == before
        others = self.packets(rig, 6)[3:]  # a radio does not take back what it has just sent
        port.write(batch_of(port.kind, others))
        assert others[0] in await self.all_taken(rig, 3)
        port.resume()
        port.resume()
        await host.until(lambda: all(each in [packet for _, packet in host.records] for each in sent), "what waited")
        await port.stop()

    async def test_stopped_it_does_nothing(self, rig: PortRig) -> None:
        port, host = await self.started(rig)
        await port.stop()
        await port.stop()
        before = len(host.records)
        port.write(batch_of(port.kind, self.packets(rig)))
        port.pause()
        port.resume()
        await self.a_while()
        assert len(host.records) == before
        json.dumps(port.describe())

    async def test_it_can_be_opened_again(self, rig: PortRig) -> None:
        first, _ = await self.started(rig)
        await first.stop()
        port, host = await self.started(rig)
        rig.put(self.packets(rig))
        await host.packets(3)
        await port.stop()

    async def test_who_holds_it_holds_it_alone(self, rig: PortRig) -> None:
        first, _ = await self.started(rig)
        if rig.is_device:
            with pytest.raises(TumplineError, match=re.escape(first.name)):
                await self.started(rig)
        await first.stop()
