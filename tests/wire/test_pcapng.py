"""pcapng files, read by tshark."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tumpline.wire.dot15d4 import fcs
from tumpline.wire.pcapng import LinkType, interface, packet, section, tls_secrets

# An ICMPv6 echo request from ::1 to ::1, and an 802.15.4 data frame.
ECHO = bytes.fromhex("6000000000083a40" + "00" * 15 + "01" + "00" * 15 + "01" + "80007ebb00010001")
FRAME = bytes.fromhex("418807cdabffff0100") + b"payload"
TIME_NS = 1_700_000_000_123_456_789


def read(path: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["tshark", "-r", str(path), "-T", "json"], capture_output=True, text=True, check=True)
    layers: list[dict[str, Any]] = [each["_source"]["layers"] for each in json.loads(done.stdout)]
    return layers


def test_tshark_reads_every_link_type(tmp_path: Path) -> None:
    path = tmp_path / "all.pcapng"
    types = {
        LinkType.RAW_IP: ECHO,
        LinkType.IPV6: ECHO,
        LinkType.IEEE802_15_4_WITHFCS: FRAME + fcs(FRAME),
        LinkType.IEEE802_15_4_NOFCS: FRAME,
    }
    octets = section("tumpline") + tls_secrets(b"CLIENT_RANDOM 00 11\n")
    for link_type in types:
        octets += interface(link_type, f"if-{link_type}", "a link")
    for number, data in enumerate(types.values()):
        octets += packet(number, TIME_NS + number, data, f"number {number}")
    path.write_bytes(octets)
    found = read(path)
    assert [each["frame"]["frame.interface_id_tree"]["frame.interface_name"] for each in found] == [
        "if-101",
        "if-229",
        "if-195",
        "if-230",
    ]
    times = [f"1700000000.{123_456_789 + number}" for number in range(4)]
    assert [each["frame"]["frame.time_epoch"] for each in found] == times
    assert all("icmpv6" in each for each in found[:2])
    assert [each["wpan"]["wpan.dst16"] for each in found[2:]] == ["0xffff", "0xffff"]
    assert found[2]["wpan"]["wpan.fcs_ok"] == "1"
    assert [comment_of(each) for each in found] == [f"number {number}" for number in range(4)]


def comment_of(layers: dict[str, Any]) -> str:
    text: str = layers["pkt_comment"]["frame.comment"]
    return text


def test_one_altered_octet_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "altered.pcapng"
    altered = bytes([FRAME[0], FRAME[1], FRAME[2] ^ 1]) + FRAME[3:] + fcs(FRAME)
    path.write_bytes(section("t") + interface(LinkType.IEEE802_15_4_WITHFCS, "radio") + packet(0, TIME_NS, altered))
    assert read(path)[0]["wpan"]["wpan.fcs_ok"] == "0"


def test_a_packet_that_is_too_long_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "long.pcapng"
    path.write_bytes(section("t") + interface(LinkType.RAW_IP, "ip") + packet(0, TIME_NS, ECHO + bytes(300_000)))
    frame = read(path)[0]["frame"]
    assert (frame["frame.len"], frame["frame.cap_len"]) == (str(300_048), "262144")
