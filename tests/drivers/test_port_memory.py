"""The port without a device."""

from __future__ import annotations

import pytest

from tumpline.drivers.ports.memory import MemoryPort, MemoryPortConfig
from tumpline.machines.packets import PACKET_OCTETS_MOST, PacketKind, batch_of
from tumpline.testing.recording_port import RecordingPortHost

PACKETS = [b"\x45 one", b"\x45 two"]


async def test_put_and_taken() -> None:
    port, host = MemoryPort(MemoryPortConfig(name="m", addresses=["bbbb::1/64"])), RecordingPortHost()
    await port.start(host)
    assert host.up == [{"name": "m", "addresses": ["bbbb::1/64"], "mtu": 1500}]
    port.put(PACKETS)
    assert await host.packets(2) == PACKETS
    port.write(batch_of(PacketKind.IP, PACKETS))
    assert list(port.taken) == PACKETS
    assert port.describe()["packets_in"] == port.describe()["packets_out"] == 2
    await port.stop()
    port.write(batch_of(PacketKind.IP, PACKETS))
    assert port.describe()["dropped"] == 2


async def test_paused_it_keeps_few() -> None:
    port, host = MemoryPort(MemoryPortConfig(kind="frame", queue_packets=3)), RecordingPortHost()
    await port.start(host)
    port.pause()
    port.put([b"%d" % number for number in range(5)])
    assert not host.records
    port.resume()
    assert await host.packets(3) == [b"0", b"1", b"2"]
    assert port.describe()["dropped"] == 2


async def test_long_packets_go_in_several_batches() -> None:
    port, host = MemoryPort(MemoryPortConfig()), RecordingPortHost()
    await port.start(host)
    port.put([bytes([0x45]) * PACKET_OCTETS_MOST] * 3)
    assert host.batches == [1, 1, 1]
    with pytest.raises(ValueError, match="a packet of 65536 octets"):
        port.put([bytes(PACKET_OCTETS_MOST + 1)])


async def test_it_goes_and_comes() -> None:
    port, host = MemoryPort(MemoryPortConfig()), RecordingPortHost()
    await port.start(host)
    port.fail("unplugged")
    port.put(PACKETS)
    port.come_back()
    assert host.down == ["unplugged"]
    assert len(host.up) == 2
    port.put(PACKETS)
    assert await host.packets(4) == PACKETS * 2
