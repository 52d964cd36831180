"""docs/udpcl.lua: every message of UDPCL in Wireshark, from captures made by hand and from one of two links."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.links.udpcl import SPEC
from tumpline.drivers.tls_files import TlsFiles, Verify
from tumpline.testing.certificates import Authority
from tumpline.testing.conformance.links import NODE_B, Pair
from tumpline.testing.dtls import DtlsPair
from tumpline.testing.pcap import Chunk, udp_conversation
from tumpline.testing.tshark import Capture
from tumpline.testing.tshark_udpcl import DISSECTOR, complaints, fields, text
from tumpline.wire import bundle7 as b7
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import PORT, Extensions, Transfer, encode_extensions

# ipn:1.1 -> ipn:2.1, payload "hi"
BUNDLE = bytes.fromhex(
    "9f89070402820282020182028201018202820100821b000000bd51281400001a0036ee8044f21ab4898601010002426869441ff585a4ff"
)
TRANSFER = bytes.fromhex("a102820058 37") + BUNDLE
SEGMENTS = [
    bytes.fromhex("a102840118370058289f89070402820282020182028201018202820100821b000000bd51281400001a0036ee8044f21ab4"),
    bytes.fromhex("a1028401183718284f898601010002426869441ff585a4ff"),
]
ADVERTISEMENT = bytes.fromhex("a30182010703192710046769706e3a312e30")
INITIATION = bytes.fromhex("a105f6")
PROBE = bytes.fromhex("a10683187b041907d0") + bytes(55)
ANSWER = bytes.fromhex("a20782187b84020000020883001101")


def capture(directory: Path, datagrams: Sequence[bytes], port: int = PORT) -> Path:
    path = directory / "made.pcap"
    path.write_bytes(udp_conversation([Chunk(True, each) for each in datagrams], port))
    return path


# ---- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [PORT, 40_404])
def test_every_sample_is_read(tmp_path: Path, port: int) -> None:
    """On the port of UDPCL, and on another by heuristics."""
    path = capture(tmp_path, [BUNDLE, TRANSFER, *SEGMENTS, ADVERTISEMENT, PROBE, ANSWER, INITIATION], port)
    assert complaints(path) == []
    names = ["udpcl.message", "udpcl.key", "bpv7.primary.src_uri", "_ws.col.Info"]
    assert fields(path, names) == [
        ["bundle of version 7", "", "ipn:1.1", "ipn:1.1 → ipn:2.1"],
        ["extension maps", "2", "ipn:1.1", "ipn:1.1 → ipn:2.1"],
        ["extension maps", "2", "", "transfer 1, octets 0 to 39 of 55"],
        ["extension maps", "2", "ipn:1.1", "ipn:1.1 → ipn:2.1"],
        ["extension maps", "1|3|4", "", "supports 1-8, listens for 10000 ms, ipn:1.0"],
        ["extension maps", "6", "", "probe 4 of 64 octets"],
        ["extension maps", "7|8", "", "confirms 2, 4-6, ECN 0, 17, 1"],
        ["extension maps", "5", "", "DTLS Initiation"],
    ]


def test_the_values_of_every_item(tmp_path: Path) -> None:
    path = capture(tmp_path, [TRANSFER, *SEGMENTS, ADVERTISEMENT, PROBE, ANSWER, bytes(4), bytes(9)])
    expected = {
        "udpcl.transfer.id": "0 1 1",
        "udpcl.transfer.total": "55 55",
        "udpcl.transfer.offset": "0 40",
        "udpcl.transfer.length": "55 40 15",
        "udpcl.transfer.whole_in": "3",
        "udpcl.transfer.segments": "2",
        "udpcl.support": "1-8",
        "udpcl.listen": "10000",
        "udpcl.node_id": "ipn:1.0",
        "udpcl.probe.nonce": "123",
        "udpcl.probe.sequence": "4",
        "udpcl.probe.confirm_delay": "2000",
        "udpcl.probe.size": "64",
        "udpcl.padding.length": "55 9",
        "udpcl.confirmation.nonce": "123",
        "udpcl.confirmation.sequences": "2, 4-6",
        "udpcl.ecn.ect0": "0",
        "udpcl.ecn.ect1": "17",
        "udpcl.ecn.ce": "1",
    }
    rows = fields(path, list(expected))
    found = {name: " ".join(row[index] for row in rows if row[index]) for index, name in enumerate(expected)}
    assert found == expected
    assert len(fields(path, ["frame.number"], show="udpcl.keepalive")) == 1


def test_large_numbers_are_exact(tmp_path: Path) -> None:
    number = (1 << 64) - 1
    path = capture(tmp_path, [encode_extensions(Extensions(transfer=Transfer(number, BUNDLE)))])
    assert fields(path, ["udpcl.transfer.id"]) == [[str(number)]]


def test_unknown_keys_are_passed_over(tmp_path: Path) -> None:
    path = capture(tmp_path, [bytes.fromhex("a3183a8201020318643901001903e8")])  # 58: [1, 2], 3: 100, -257: 1000
    assert fields(path, ["udpcl.key", "udpcl.listen", "udpcl.value"]) == [["58|3|-257", "100", "820102|1903e8"]]
    assert complaints(path) == ["key 58 means nothing here", "key -257 means nothing here"]


def test_indefinite_lengths(tmp_path: Path) -> None:
    path = capture(tmp_path, [bytes.fromhex("bf0319271001 9f0107ff ff".replace(" ", ""))])
    assert fields(path, ["udpcl.listen", "udpcl.support"]) == [["10000", "1-8"]]
    assert complaints(path) == []


WRONG = [
    ("a0", "a map without an item"),
    ("a203190bb80301", "key 3 comes twice"),
    ("a20310", "the datagram ends within an item"),
    ("a103", "the datagram ends within an item"),
    ("a105f5", "DTLS Initiation: the value is not null"),
    ("a205f60301", "a DTLS Initiation with other items"),
    ("a105f6a10301", "a probe or a DTLS Initiation with other maps"),
    ("a10301ff", "octet 0xff at 3 begins neither a map nor padding"),
    ("a1036161", "Sender Listen: the interval is no unsigned integer"),
    ("a1046161" + "ff", "octet 0xff at 4 begins neither a map nor padding"),
    ("a10401", "Sender Node ID: the node ID is no text of definite length, or empty"),
    ("a106820102", "Peer Probe: the probe has 2 items"),
    ("a1018101", "Extension Support: the range has an odd number of integers, or none"),
    ("a108831b000000010000000000" + "00", "ECN Counts: a count is not below 2^32"),
    ("a102840101004162", "Transfer: a transfer with something else than a bundle"),
    ("a1028401010141ff", "Transfer: octets 1 to 1 of 1"),
    ("a1616101", "the key at 1 is no integer from -32768 to 32767"),
    ("a11a0001000001", "the key at 1 is no integer from -32768 to 32767"),
    ("a1031c", "octet 0x1c at 2 begins no CBOR item"),
    ("a1039f", "the datagram ends within an item"),
    ("0000000001", "padding that is not all zeros"),
    ("ff", "no message begins with 0xff"),
    ("c2", "no message begins with 0xc2"),
    ("a109" + "81" * 40 + "00", "items too deep in each other"),
]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    path = capture(tmp_path, [bytes.fromhex(datagram) for datagram, _ in WRONG])
    rows = fields(path, ["_ws.expert.message"])
    assert len(rows) == len(WRONG)
    for (datagram, complaint), (found,) in zip(WRONG, rows, strict=True):
        assert complaint in found.split("|"), (datagram, found)
    assert "Lua Error" not in text(path)


def test_segments_that_do_not_fit_each_other(tmp_path: Path) -> None:
    other_total = bytes.fromhex("a1028401183818284f") + SEGMENTS[1][9:]
    path = capture(tmp_path, [SEGMENTS[0], SEGMENTS[0], other_total, SEGMENTS[1]])
    assert complaints(path) == ["these octets came in frame 1", "other segments said 55 octets"]
    assert [row[0] for row in fields(path, ["bpv7.primary.src_uri"])] == ["", "", "", "ipn:1.1"]


def _with(data: bytes, at: int, octet: int) -> bytes:
    return data[:at] + bytes([octet]) + data[at + 1 :]


def test_one_altered_octet_does_not_pass(tmp_path: Path) -> None:
    """That nothing is found to say is worth something: of every octet changed, tshark says or shows something else."""
    names = [
        "udpcl.message", "udpcl.key", "udpcl.support", "udpcl.listen", "udpcl.node_id", "udpcl.transfer.id",
        "udpcl.transfer.total", "udpcl.transfer.offset", "udpcl.transfer.data", "bpv7.primary.src_uri", "bpv7.primary.lifetime",
        "bpv7.primary.bundle_flags", "bpv7.crc_status", "bpv7.canonical.data",
        "udpcl.probe.nonce", "udpcl.probe.sequence", "udpcl.probe.confirm_delay", "udpcl.confirmation.nonce",
        "udpcl.confirmation.sequences", "udpcl.ecn.ect0", "udpcl.ecn.ect1", "udpcl.ecn.ce", "udpcl.padding",
        "_ws.expert.message", "_ws.col.Info",
    ]  # fmt: skip
    genuine = [TRANSFER, ADVERTISEMENT, PROBE[:20], ANSWER, INITIATION]
    (*expected,) = fields(capture(tmp_path, genuine), names)
    altered: list[tuple[int, bytes]] = []
    for index, datagram in enumerate(genuine):
        altered += [(index, _with(datagram, at, datagram[at] ^ 1)) for at in range(len(datagram))]
    found = fields(capture(tmp_path, [each for _, each in altered]), names)
    assert len(found) == len(altered)
    for (index, datagram), row in zip(altered, found, strict=True):
        assert row != expected[index], datagram.hex()


def test_bundles_look_as_without_the_dissector(tmp_path: Path) -> None:
    """Wireshark's own reading of a bare bundle, field by field."""
    path = capture(tmp_path, [BUNDLE])

    def shown(*options: str) -> str:
        command = ["tshark", *options, "-r", str(path), "-O", "bpv7", "-o", "bpv7.bp_compute_crc:TRUE"]
        out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        return out[out.index("DTN Bundle Protocol Version 7") :]

    assert shown("-X", f"lua_script:{DISSECTOR}") == shown()


# ---- DTLS ------------------------------------------------------------------------------------------------------------


def _dtls_conversation(directory: Path, plaintexts: Sequence[bytes]) -> list[Chunk]:
    """A whole one, of two sessions between memory buffers; secrets go to keys.log."""
    authority = Authority(directory)
    ends = []
    for name in ("a", "b"):
        tls = authority.issue(name, [f"dtn://{name}/"])
        ends.append(
            DtlsContexts(TlsFiles(tls["cert"], tls["key"], tls["ca"], Verify.ALL, key_log=str(directory / "keys.log")))
        )
    pair = DtlsPair(ends[0], ends[1])
    chunks = [Chunk(True, INITIATION)]

    def there(datagrams: list[bytes]) -> list[bytes]:
        from_client = bool(datagrams) and turn[0]
        turn[0] = not turn[0]
        chunks.extend(Chunk(from_client, each) for each in datagrams)
        return datagrams

    turn = [True]
    while pair.carry(impair=there):
        pass
    assert pair.client.is_established, pair.client.failure
    for plaintext in plaintexts:
        pair.client.write(plaintext)
    return [*chunks, *(Chunk(True, each) for each in pair.client.datagrams())]


@pytest.mark.parametrize("port", [PORT, 40_404])
def test_what_dtls_carries_is_shown_with_its_secrets(tmp_path: Path, port: int) -> None:
    chunks = _dtls_conversation(tmp_path, [BUNDLE, *SEGMENTS, ADVERTISEMENT, ANSWER])
    path = tmp_path / "dtls.pcap"
    path.write_bytes(udp_conversation(chunks, port))
    keys = tmp_path / "keys.log"
    (last,) = fields(path, ["udpcl.key", "bpv7.primary.src_uri", "udpcl.node_id"], show="dtls.app_data", key_log=keys)
    assert last == ["2|2|1|3|4|7|8", "ipn:1.1|ipn:1.1", "ipn:1.0"]
    assert complaints(path, key_log=keys) == []
    without = fields(path, ["udpcl.message", "udpcl.key"])
    assert without[0] == ["extension maps", "5"]
    assert without[-1] == ["DTLS record", ""]


def test_an_altered_record_is_not_read(tmp_path: Path) -> None:
    chunks = _dtls_conversation(tmp_path, [BUNDLE])
    last = chunks[-1].data
    chunks[-1] = Chunk(True, last[:-1] + bytes([last[-1] ^ 1]))
    path = tmp_path / "dtls.pcap"
    path.write_bytes(udp_conversation(chunks, PORT))
    rows = fields(path, ["bpv7.primary.src_uri"], show="bpv7", key_log=tmp_path / "keys.log")
    assert rows == []


def test_plain_text_after_dtls_is_remarked(tmp_path: Path) -> None:
    chunks = [*_dtls_conversation(tmp_path, [BUNDLE]), Chunk(True, BUNDLE)]
    path = tmp_path / "dtls.pcap"
    path.write_bytes(udp_conversation(chunks, PORT))
    assert complaints(path, key_log=tmp_path / "keys.log") == [
        f"plain text, though DTLS carries since frame {len(chunks) - 1}"
    ]


# ---- two links -------------------------------------------------------------------------------------------------------


def _bundles() -> list[bytes]:
    primary = b7.PrimaryBlock(
        0, 2, Eid.parse("dtn://b/sink"), Eid.parse("dtn://a/source"), Eid.parse("dtn://a/"), 9, 0, 10**6
    )
    sizes = [10, 500, 5000, 40_000, 0, 1200]
    return [
        b7.encode_bundle(b7.Bundle(primary._replace(sequence=at), (), os.urandom(size)))
        for at, size in enumerate(sizes)
    ]


async def _talk(directory: Path, config_a: dict[str, Any], config_b: dict[str, Any]) -> Path:
    """Bundles from a to b over loopback, captured."""
    pair = Pair(SPEC, config_a, {"listen": "127.0.0.1:0", **config_b})
    await pair.start_b()
    port = int(pair.address.rpartition(":")[2])
    with Capture(directory / "links.pcapng", port) as seen:
        await pair.link_a.start(pair.a)
        pair.a.acknowledge = pair.link_a.acknowledge
        pair.link_a.connect(pair.address, NODE_B)
        await pair.a.until(lambda: bool(pair.a.live), "a path")
        bundles = _bundles()
        pair.offer(*(pair.unit(each) for each in bundles))
        await pair.b.until(lambda: len(pair.b.arrivals) == len(bundles), "all arrivals")
        assert sorted(pair.b.data) == sorted(bundles)
        await pair.stop()
    return seen.path


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "dtls"])
async def test_two_links_leave_nothing_to_remark(tmp_path: Path, secured: bool) -> None:
    ca, keys = Authority(tmp_path), tmp_path / "keys.log"
    config: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    if secured:
        for name in config:
            config[name]["tls"] = {**ca.issue(name, [f"dtn://{name}/"]), "key_log": str(keys)}
    path = await _talk(tmp_path, config["a"], config["b"])
    port = fields(path, ["udp.dstport"])[0][0]
    decode = ("-d", f"udp.port=={port},udpcl", "-d", f"dtls.port=={port},udpcl_dtls")
    sequence = fields(path, ["bpv7.create_ts.seqno"], *decode, show="bpv7", key_log=keys if secured else None)
    found = sorted(value for (row,) in sequence for value in row.split("|"))
    assert found == ["0", "1", "2", "3", "4", "5"]
    marks = {"no message begins with 0x74"}  # "tumpline capture begins"
    assert set(complaints(path, *decode, key_log=keys if secured else None)) <= marks
