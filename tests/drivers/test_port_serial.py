"""The serial port over pseudo-terminals: every dialect against a simulated probe, unplugged and plugged in again."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.ports.serial import SPEC, UNSENT_OCTETS_MOST, SerialConfig, SerialPort
from tumpline.errors import TumplineError
from tumpline.machines.packets import PacketBatch, PacketKind, batch_of
from tumpline.node.overlay.dump import Dump, DumpConfig
from tumpline.testing.lowpan import CONTENT, acknowledgement, data_frame
from tumpline.testing.radio import CHANNEL, LQI, RSS_DBM, Air, Mote, Probe, ProbeKind
from tumpline.wire.dot15d4 import fcs
from tumpline.wire.pcapng import Direction
from tumpline.wire.radio import RadioFacts, decode_facts_untrusted
from tumpline.wire.slip import encode_slip

NEAR, FAR = bytes.fromhex("00124b0000000001"), bytes.fromhex("00124b0000000002")
FRAME, OTHER = data_frame(1, NEAR, FAR, b"\xc0\xdbpayload"), data_frame(2, NEAR, FAR, b"other")
THIRD, FOURTH = data_frame(3, FAR, NEAR, b"\xc0\xdbpayload"), data_frame(4, FAR, NEAR, b"other")
HANG_S = 20.0


class Host:
    """Keeps what the port says."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.facts: list[RadioFacts] = []
        self.said: list[Any] = []
        self.onward: Callable[[PacketBatch], None] = lambda batch: None
        self._changed = asyncio.Event()

    def from_port(self, batch: PacketBatch) -> None:
        for offload, frame in batch.records():
            self.frames.append(bytes(frame))
            self.facts.append(decode_facts_untrusted(offload))
        self.onward(batch)
        self._changed.set()

    def port_up(self, **facts: Any) -> None:
        self.said.append(facts)
        self._changed.set()

    def port_down(self, reason: str) -> None:
        self.said.append(reason)
        self._changed.set()

    async def came(self, *, frames: int = 0, said: int = 0) -> None:
        await self.until(lambda: len(self.frames) >= frames and len(self.said) >= said)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANG_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Place:
    """Air, a probe, and the port that it hangs on."""

    def __init__(self, path: Path, kind: ProbeKind | None = None) -> None:
        self.air = Air()
        self.probe = Probe(self.air, path, kind)
        self.host = Host()
        self.port = SerialPort(SerialConfig(device=str(path)))

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Place]:
        self.port = SerialPort(SerialConfig(device=str(self.probe.path), **options))
        await self.port.start(self.host)
        try:
            yield self
        finally:
            await self.port.stop()
            self.probe.unplug()


async def turns_until(condition: Callable[[], bool]) -> None:
    """Until something has happened that nobody is told."""
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.002)


# ---- frames both ways -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_fcs", [False, True], ids=["without FCS", "with FCS"])
async def test_raw_slip_both_ways(tmp_path: Path, has_fcs: bool) -> None:
    place = Place(tmp_path / "ttyRADIO", ProbeKind(has_fcs=has_fcs))
    async with place.open(trailer="fcs" if has_fcs else "none"):
        assert place.host.said == [
            {"device": str(place.probe.path), "baudrate": 115_200, "dialect": "slip", "mode": "active", "unplugged": 0}
        ]
        place.probe.hear(FRAME)
        place.probe.hear(OTHER)
        await place.host.until(lambda: len(place.host.frames) == 2)
        assert place.host.frames == [FRAME, OTHER]
        assert place.host.facts == [RadioFacts(fcs=fcs(each) if has_fcs else None) for each in (FRAME, OTHER)]
        place.port.write(batch_of(PacketKind.FRAME, [THIRD, FOURTH]))
        await turns_until(lambda: len(place.probe.sent) == 2)
        assert [frame for frame in place.air.frames if frame[0] != 2][-1] == FOURTH
        assert place.probe.malformed == 0
        assert place.port.describe()["packets_out"] == place.port.describe()["packets_in"] == 2


@pytest.mark.parametrize("shares_ends", [False, True])
async def test_two_motes_talk_through_two_probes(tmp_path: Path, shares_ends: bool) -> None:
    kind = ProbeKind(shares_ends=shares_ends)
    places = [Place(tmp_path / name, kind) for name in ("ttyNEAR", "ttyFAR")]
    near, far = places
    content = bytes(range(256)) * 3  # nine frames
    mote = Mote(near.air, NEAR)
    server = Mote(far.air, FAR, {"hello": b"over the hills", "long": content})
    async with AsyncExitStack() as stack:
        for place in places:
            await stack.enter_async_context(place.open())
            os.write(place.probe._master, b"\xc0")  # what comes now begins a frame
        near.host.onward, far.host.onward = far.port.write, near.port.write
        async with asyncio.timeout(HANG_S):
            assert (await mote.get(FAR, "hello")).payload == b"over the hills"
            answer = await mote.get(FAR, "long")
        assert (answer.code, answer.payload) == (CONTENT, content)
        # The probe beside each mote acknowledged at once: nothing was repeated, and no acknowledgement crossed.
        assert mote.unacknowledged == server.unacknowledged == mote.duplicates == server.duplicates == 0
        assert mote.transmissions == 2
        assert all(outcome == (True, 1) for place in places for outcome in place.probe.sent)
        assert not any(frame[0] & 7 == 2 for place in places for frame in place.host.frames)


async def test_a_probe_that_passes_on_acknowledgements_is_not_believed(tmp_path: Path) -> None:
    place = Place(tmp_path / "ttyRADIO", ProbeKind(passes_acknowledgements=True))
    async with place.open():
        os.write(place.probe._master, encode_slip(acknowledgement(7)))
        place.probe.hear(FRAME)
        await place.host.until(lambda: place.host.frames == [FRAME])
        place.port.write(batch_of(PacketKind.FRAME, [acknowledgement(8), OTHER]))
        await turns_until(lambda: len(place.probe.sent) == 1)
        assert place.port.describe()["acknowledgements"] == 2


async def test_a_passive_probe_hears_all_and_is_told_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path / "ttyRADIO", ProbeKind(is_passive=True))
    near = Mote(place.air, NEAR)
    Mote(place.air, FAR, {"x": b"y"})
    async with place.open(mode="passive"):
        assert (await near.get(FAR, "x")).payload == b"y"
        await place.host.until(lambda: len(place.host.frames) == 4)
        assert place.host.frames == place.air.frames  # both frames, both acknowledgements
        place.port.write(batch_of(PacketKind.FRAME, [FRAME]))
        assert place.port.describe()["dropped"] == 1
        assert place.probe.sent == []


# ---- the other dialects -----------------------------------------------------------------------------------------------


async def test_slip_radio(tmp_path: Path) -> None:
    place = Place(tmp_path / "ttyRADIO", ProbeKind(dialect="slip-radio"))
    Mote(place.air, FAR)
    async with place.open(dialect="slip-radio", channel=15, pan_id=0xABCD, short_address=2):
        await turns_until(lambda: place.port.describe()["pan_id"] == 0xABCD)
        await turns_until(lambda: place.probe.short_address == 2)
        assert (place.probe.channel, place.probe.pan_id, place.probe.rx_mode) == (15, 0xABCD, 3)
        place.probe.hear(FRAME)
        await place.host.until(lambda: place.host.frames == [FRAME])
        assert place.host.facts == [RadioFacts(channel=15)]
        nobody = bytes(8)
        to_send = [OTHER, *(data_frame(number, NEAR, nobody, b"") for number in range(20))]
        place.port.write(batch_of(PacketKind.FRAME, to_send))
        await turns_until(lambda: place.port.describe()["radio"]["unacknowledged"] == 20)
        radio = place.port.describe()["radio"]
        assert (radio["acknowledged"], radio["transmissions"]) == (1, 81)
        assert place.port.describe()["address"] == "00124b0000000099"


async def test_sensniff(tmp_path: Path) -> None:
    place = Place(tmp_path / "ttyRADIO", ProbeKind(dialect="sensniff", is_passive=True))
    async with place.open(dialect="sensniff", channel=20):
        await turns_until(lambda: place.port.describe()["channel"] == 20)
        place.probe.say("sensniff 1.4\r\n")
        place.probe.hear(FRAME)
        await place.host.until(lambda: place.host.frames == [FRAME])
        assert place.host.facts == [RadioFacts(RSS_DBM, LQI, 20)]
        place.port.write(batch_of(PacketKind.FRAME, [OTHER]))
        assert place.port.describe()["dropped"] == 1


# ---- the line ---------------------------------------------------------------------------------------------------------


async def test_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "ttyRADIO")
    async with place.open():
        host, probe = place.host, place.probe
        for count in (1, 2):
            probe.hear(FRAME)
            await host.came(frames=count)
            probe.unplug()
            await host.came(said=2 * count)
            assert "waiting until it is there again" in host.said[-1]
            place.port.write(batch_of(PacketKind.FRAME, [FRAME]))
            probe.plug()
            await host.came(said=2 * count + 1)
        place.port.write(batch_of(PacketKind.FRAME, [OTHER]))
        await turns_until(lambda: len(probe.sent) == 1)
        assert (place.port.describe()["unplugged"], place.port.describe()["dropped"]) == (2, 2)


async def test_pulled_out_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, failures = Place(tmp_path / "ttyRADIO"), iter([termios.error(errno.EIO, "Input/output error")])

    def set_attributes(*args: Any) -> None:
        for error in failures:
            raise error
        really(*args)

    async with place.open():
        place.probe.unplug()
        await place.host.came(said=2)
        really = termios.tcsetattr
        place.probe.plug()
        monkeypatch.setattr(termios, "tcsetattr", set_attributes)
        await place.host.came(said=3)
        place.port.write(batch_of(PacketKind.FRAME, [FRAME]))
        await turns_until(lambda: len(place.probe.sent) == 1)


async def test_socat_dies_and_comes_back(tmp_path: Path) -> None:
    """A pair of pseudo-terminals of a program nobody here wrote; its end is as when USB is pulled."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"

    async def paired() -> tuple[subprocess.Popen[bytes], int]:
        ends = [f"pty,raw,echo=0,link={path}" for path in (ours, theirs)]
        process = subprocess.Popen(["socat", *ends], stderr=subprocess.DEVNULL)
        await turns_until(lambda: ours.exists() and theirs.exists())
        return process, os.open(theirs, os.O_RDWR | os.O_NOCTTY)

    process, other = await paired()
    host, port = Host(), SerialPort(SerialConfig(device=str(ours)))
    await port.start(host)
    try:
        for count in (1, 2):
            os.write(other, encode_slip(FRAME))
            await host.came(frames=count)
            answer = data_frame(count, FAR, NEAR, b"answer")
            port.write(batch_of(PacketKind.FRAME, [answer]))
            assert os.read(other, 1000) == encode_slip(answer)
            os.close(other)
            process.terminate()
            process.wait()
            await host.until(lambda: type(host.said[-1]) is str)
            process, other = await paired()
            await host.until(lambda: type(host.said[-1]) is dict)
    finally:
        await port.stop()
        os.close(other)
        process.terminate()
        process.wait()


async def test_a_line_that_takes_nothing_costs_frames_not_memory(tmp_path: Path) -> None:
    place = Place(tmp_path / "ttyRADIO")
    async with place.open():
        asyncio.get_running_loop().remove_reader(place.probe._master)  # it hangs
        for number in range(400):
            frames = [data_frame(number % 256, NEAR, FAR, bytes([number // 256, each])) for each in range(4)]
            place.port.write(batch_of(PacketKind.FRAME, frames))
        counts = place.port.describe()
        assert counts["packets_in"] + counts["dropped"] == 1600
        assert counts["dropped"] > 0
        assert len(place.port._unsent) <= UNSENT_OCTETS_MOST
        asyncio.get_running_loop().add_reader(place.probe._master, place.probe._read)
        await turns_until(lambda: len(place.probe.sent) == counts["packets_in"])
        assert place.probe.malformed == 0  # no frame was cut


async def test_paused_it_reads_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path / "ttyRADIO")
    async with place.open():
        place.port.pause()
        place.port.pause()
        os.write(place.probe._master, encode_slip(FRAME))
        for _ in range(5):
            await asyncio.sleep(0)
        assert place.host.frames == []
        place.port.resume()
        place.port.resume()
        await place.host.until(lambda: place.host.frames == [FRAME])


async def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(TumplineError, match="is not there; plug the probe in"):
        await SerialPort(SerialConfig(device=str(tmp_path / "none"))).start(Host())
    with pytest.raises(TumplineError, match="is no serial device"):
        await SerialPort(SerialConfig(device="/dev/null")).start(Host())
    place = Place(tmp_path / "ttyRADIO")
    with pytest.raises(TumplineError, match="cannot run at 12345 Bd; write one of: 9600, "):
        await SerialPort(SerialConfig(device=str(place.probe.path), baudrate=12345)).start(Host())
    async with place.open():
        with pytest.raises(TumplineError, match="in use by another program"):
            await SerialPort(SerialConfig(device=str(place.probe.path))).start(Host())
    assert SPEC.open(SerialConfig(device="x")).describe()["is_open"] is False


# ---- captures ---------------------------------------------------------------------------------------------------------


async def test_a_sniffers_capture_down_to_coap(tmp_path: Path) -> None:
    place = Place(tmp_path / "ttyRADIO", ProbeKind(dialect="sensniff", is_passive=True))
    near = Mote(place.air, NEAR)
    Mote(place.air, FAR, {"hello": b"over the hills", "long": bytes(300)})
    dump = Dump(DumpConfig(tmp_path / "air.pcapng"))
    place.host.onward = lambda batch: dump.packets(batch, Direction.INBOUND, "radio")
    async with place.open(dialect="sensniff"):
        await turns_until(lambda: place.port.describe()["channel"] == CHANNEL)
        await near.get(FAR, "hello")
        await near.get(FAR, "long")
        await place.host.until(lambda: len(place.host.frames) == len(place.air.frames))
    dump.close()
    command = ["tshark", "-r", str(tmp_path / "air.pcapng"), "-Y", "coap", "-T", "fields"]
    fields = ["coap.code", "coap.opt.uri_path", "ipv6.src", "udp.checksum.status", "wpan-tap.rss", "wpan-tap.lqi"]
    options = ["-o", "udp.check_checksum:TRUE", *(word for field in fields for word in ("-e", field))]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    near_address, far_address = "fe80::212:4b00:0:1", "fe80::212:4b00:0:2"
    assert [line.split("\t") for line in done.stdout.splitlines()] == [
        ["1", "hello", near_address, "1", "-61", "104"],
        ["69", "", far_address, "1", "-61", "104"],
        ["1", "long", near_address, "1", "-61", "104"],
        ["69", "", far_address, "1", "-61", "104"],
    ]
