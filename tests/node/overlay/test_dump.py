"""Dumps: tshark decodes every link type, down to 6LoWPAN and CoAP; files stay bounded; a reader may read along."""

from __future__ import annotations

import os
import queue
import resource
import struct
import subprocess
import threading
from pathlib import Path
from typing import IO

import pytest

from tumpline.drivers.capture_files import PIPE_OCTETS_MOST, Bounds
from tumpline.errors import ConfigError
from tumpline.machines.packets import PacketBatch, PacketKind, batch_of, batch_of_records
from tumpline.node.overlay.dump import Dump, DumpConfig
from tumpline.testing.lowpan import GET, Coap, encode_coap
from tumpline.wire.dot15d4 import fcs
from tumpline.wire.pcapng import Direction
from tumpline.wire.radio import RadioFacts, encode_facts
from tumpline.wire.virtio_net import NEEDS_CSUM, GsoType, Offload

# ICMPv6 echo from ::1 to ::1; UDP from 10.2.0.1 to 10.2.0.2, port 9; a data frame with a short broadcast address.
ECHO = bytes.fromhex("6000000000083a40" + "00" * 15 + "01" + "00" * 15 + "01" + "80007ebb00010001")
UDP4 = bytes.fromhex("4500001c000100004011" + "66cc" + "0a020001" + "0a020002" + "0400000900080000")
FRAME = bytes.fromhex("418807cdabffff0100") + b"payload"


def tshark(path: Path, *fields: str, options: tuple[str, ...] = ()) -> list[list[str]]:
    command = [
        "tshark",
        *options,
        "-r",
        str(path),
        "-T",
        "fields",
        *(word for field in fields for word in ("-e", field)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("\t") for line in done.stdout.splitlines()]


def dumped(path: Path, *batches: PacketBatch, by_version: bool = False) -> Path:
    dump = Dump(DumpConfig(path, by_version=by_version))
    for batch in batches:
        dump.packets(batch, Direction.INBOUND, "port")
    dump.close()
    return path


def test_ip_is_raw_or_by_version(tmp_path: Path) -> None:
    batch = batch_of(PacketKind.IP, [ECHO, UDP4])
    fields = "frame.interface_id", "frame.protocols"
    rows = tshark(dumped(tmp_path / "raw.pcapng", batch), *fields)
    assert rows == [["0", "raw:ipv6:icmpv6"], ["0", "raw:ip:udp"]]
    path = dumped(tmp_path / "each.pcapng", batch, by_version=True)
    assert tshark(path, *fields) == [["0", "ipv6:icmpv6"], ["1", "ip:udp"]]


@pytest.mark.parametrize("by_version", [False, True])
def test_coap_over_both_versions(tmp_path: Path, by_version: bool) -> None:
    """Link types 101, 228 and 229."""
    coap = encode_coap(Coap(False, GET, 7, b"to", "hello"))
    udp = struct.pack(">HHHH", 40_000, 5683, 8 + len(coap), 0) + coap
    six = struct.pack(">IHBB", 6 << 28, len(udp), 17, 64) + ECHO[8:40] + udp
    four = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + UDP4[12:20] + udp
    path = dumped(tmp_path / "coap.pcapng", batch_of(PacketKind.IP, [six, four]), by_version=by_version)
    assert tshark(path, "frame.interface_id", "frame.protocols", "coap.opt.uri_path") == [
        ["0", f"{'' if by_version else 'raw:'}ipv6:udp:coap", "hello"],
        ["1" if by_version else "0", f"{'' if by_version else 'raw:'}ip:udp:coap", "hello"],
    ]


def test_super_packets_are_captured_as_the_packets_that_they_stand_for(tmp_path: Path) -> None:
    """TCP over IPv6, 3000 octets in segments of 1400, whose checksum is that of the pseudo-header alone, as a TUN gives it."""
    payload, sources = bytes(range(250)) * 12, bytes.fromhex("bbbb" + "00" * 13 + "01" + "bbbb" + "00" * 13 + "02")
    length = 20 + len(payload)
    words = struct.unpack(">16H", sources)
    partial = (sum(words) + length + 6) % 0xFFFF
    tcp = struct.pack(">HHIIBBHHH", 4000, 5000, 1, 1, 0x50, 0x18, 512, partial, 0)
    packet = struct.pack(">IHBB", 6 << 28, length, 6, 64) + sources + tcp + payload
    offload = Offload(NEEDS_CSUM, GsoType.TCP6, 60, 1400, 40, 16).encode()
    path = dumped(tmp_path / "super.pcapng", batch_of_records(PacketKind.IP, [(offload, packet), (bytes(10), ECHO)]))
    rows = tshark(path, "tcp.len", "tcp.seq_raw", "tcp.checksum.status", options=("-o", "tcp.check_checksum:TRUE"))
    assert rows == [["1400", "1", "1"], ["1400", "1401", "1"], ["200", "2801", "1"], ["", "", ""]]
    impossible = Offload(0, 77, 60, 1400, 40, 16).encode()
    path = dumped(tmp_path / "strange.pcapng", batch_of_records(PacketKind.IP, [(impossible, ECHO)]))
    assert tshark(path, "icmpv6.type") == [["128"]]


def test_frames_keep_what_is_known_of_them(tmp_path: Path) -> None:
    facts = [
        RadioFacts(),
        RadioFacts(fcs=fcs(FRAME)),
        RadioFacts(rss_dbm=-71, lqi=96, channel=26),
        RadioFacts(rss_dbm=-90, fcs=fcs(FRAME)),
    ]
    batch = batch_of_records(PacketKind.FRAME, [(encode_facts(each), FRAME) for each in facts])
    rows = tshark(
        dumped(tmp_path / "frames.pcapng", batch),
        *("frame.interface_id", "wpan.fcs", "wpan-tap.rss", "wpan-tap.ch_num", "wpan-tap.lqi", "wpan.dst16"),
    )
    check = f"0x{int.from_bytes(fcs(FRAME), 'little'):04x}"
    assert rows == [
        ["0", "", "", "", "", "0xffff"],
        ["1", check, "", "", "", "0xffff"],
        ["2", "", "-71", "26", "96", "0xffff"],
        ["2", check, "-90", "", "", "0xffff"],
    ]


def test_one_altered_octet_is_seen(tmp_path: Path) -> None:
    facts = encode_facts(RadioFacts(fcs=fcs(FRAME)))
    batch = batch_of_records(PacketKind.FRAME, [(facts, FRAME[:-1] + b"?")])
    assert tshark(dumped(tmp_path / "altered.pcapng", batch), "wpan.fcs_ok") == [["0"]]


def test_directions_times_and_interfaces(tmp_path: Path) -> None:
    path = tmp_path / "both.pcapng"
    dump = Dump(DumpConfig(path), clock_ns=iter([1_700_000_000_000_000_001, 1_700_000_000_000_000_002]).__next__)
    dump.packets(batch_of(PacketKind.IP, [ECHO]), Direction.INBOUND, "tun0")
    dump.packets(batch_of(PacketKind.FRAME, [FRAME]), Direction.OUTBOUND, "/dev/ttyUSB0")
    rows = tshark(path, "frame.time_epoch", "frame.packet_flags_direction", "frame.interface_name")
    assert rows == [
        ["1700000000.000000001", "0x00000002", "tun0"],
        ["1700000000.000000002", "0x00000002", "/dev/ttyUSB0"],
    ]
    assert dump.snapshot() == {"path": str(path), "packets": 2, "lost": 0}


def test_a_reader_beside_it_sees_each_packet_at_once(tmp_path: Path) -> None:
    path = tmp_path / "live.pcapng"
    dump = Dump(DumpConfig(path))
    for count in (1, 2, 3):
        dump.packets(batch_of(PacketKind.IP, [ECHO]), Direction.INBOUND, "tun0")
        assert len(tshark(path, "icmpv6.type")) == count


def test_files_are_bounded_and_each_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ring.pcapng"
    dump = Dump(DumpConfig(path, Bounds(file_octets_most=1000, files_most=3)))
    frame = batch_of(PacketKind.FRAME, [FRAME])
    for _ in range(60):
        dump.packets(batch_of(PacketKind.IP, [ECHO]), Direction.INBOUND, "tun0")
        dump.packets(frame, Direction.INBOUND, "serial")
    files = sorted(tmp_path.iterdir(), key=lambda each: each.stat().st_mtime_ns)
    assert len(files) == 3
    assert all(each.stat().st_size <= 1000 for each in files)
    counts = [len(tshark(each, "frame.interface_name")) for each in files]
    assert all(counts)
    assert {row[0] for each in files for row in tshark(each, "frame.interface_name")} == {"tun0", "serial"}


def test_an_earlier_capture_stays(tmp_path: Path) -> None:
    path = tmp_path / "one.pcapng"
    for _ in range(3):
        dumped(path, batch_of(PacketKind.IP, [ECHO]))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one.1.pcapng", "one.2.pcapng", "one.pcapng"]
    assert all(len(tshark(each, "icmpv6.type")) == 1 for each in tmp_path.iterdir())


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name a file in a directory of yours"):
        Dump(DumpConfig(tmp_path / "missing" / "x.pcapng"))


def test_a_full_disk_costs_packets_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "full.pcapng"
    dump = Dump(DumpConfig(path))
    batch = batch_of(PacketKind.IP, [ECHO] * 3)
    dump.packets(batch, Direction.INBOUND, "tun0")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        dump.packets(batch, Direction.INBOUND, "tun0")  # of which half a block would have room
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    dump.packets(batch, Direction.INBOUND, "tun0")
    assert len(tshark(path, "icmpv6.type")) == 6
    assert dump.snapshot() == {"path": str(path), "packets": 6, "lost": 3}


def test_each_reader_of_a_pipe_gets_a_whole_capture(tmp_path: Path) -> None:
    path, copy = tmp_path / "pipe", tmp_path / "copy.pcapng"
    os.mkfifo(path)
    dump = Dump(DumpConfig(path))
    batch = batch_of(PacketKind.IP, [ECHO])
    dump.packets(batch, Direction.INBOUND, "tun0")  # nobody reads
    for _ in range(2):
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        dump.packets(batch, Direction.INBOUND, "tun0")
        dump.packets(batch, Direction.OUTBOUND, "tun0")
        copy.write_bytes(os.read(reader, 1 << 16))
        os.close(reader)
        assert len(tshark(copy, "icmpv6.type")) == 2
        dump.packets(batch, Direction.INBOUND, "tun0")  # the reader has gone
    assert dump.snapshot() == {"path": str(path), "packets": 4, "lost": 3}


def test_tshark_reads_a_pipe_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "live"
    os.mkfifo(path)
    dump = Dump(DumpConfig(path))
    command = ["tshark", "-l", "-n", "-i", str(path), "-T", "fields", "-e", "icmpv6.type"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        batch = batch_of(PacketKind.IP, [ECHO])
        lines: queue.Queue[str] = queue.Queue()

        def keep(output: IO[str]) -> None:
            for line in output:
                lines.put(line)

        reader = threading.Thread(target=keep, args=(process.stdout,))
        reader.start()
        for _ in range(3):
            # Until it has opened the pipe, packets are lost; after that each is seen while the capture goes on.
            while True:
                dump.packets(batch, Direction.INBOUND, "tun0")
                try:
                    assert lines.get(timeout=0.1) == "128\n"
                    break
                except queue.Empty:
                    assert process.poll() is None
        process.terminate()
        reader.join()
    dump.close()


def test_a_pipe_whose_reader_sleeps_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    dump = Dump(DumpConfig(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    batch = batch_of(PacketKind.IP, [bytes([0x60]) + bytes(65_000)])
    for _ in range(2 * PIPE_OCTETS_MOST // 65_000):
        dump.packets(batch, Direction.INBOUND, "tun0")
    lost = dump.snapshot()["lost"]
    assert 0 < lost < 2 * PIPE_OCTETS_MOST // 65_000
    os.close(reader)


def test_where_there_was_no_room_for_another_file_there_may_be_later(tmp_path: Path) -> None:
    path = tmp_path / "full.pcapng"
    dump = Dump(DumpConfig(path, Bounds(file_octets_most=1000, files_most=3)))
    batch = batch_of(PacketKind.IP, [ECHO] * 8)
    dump.packets(batch, Direction.INBOUND, "tun0")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        dump.packets(batch, Direction.INBOUND, "tun0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    dump.packets(batch, Direction.INBOUND, "tun0")
    assert [len(tshark(each, "icmpv6.type")) for each in (tmp_path / "full.1.pcapng", path)] == [8, 8]
    assert dump.snapshot()["lost"] == 8
