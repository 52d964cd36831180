"""Wireshark's dissector reads our bundles: every field as we meant it, every CRC right, nothing to remark."""

import struct
import subprocess
from pathlib import Path

from tumpline.wire import bundle7 as b7
from tumpline.wire.admin import Assertion, StatusReport, encode_admin
from tumpline.wire.eid import NULL, Eid

LINKTYPE_UPPER_PDU = 252
PRIMARY = b7.PrimaryBlock(
    0, 2, Eid.parse("dtn://rover/files"), Eid.parse("ipn:5.1"), Eid.parse("dtn://ground/"), 812345678901, 5, 86400000
)
BLOCKS = (
    b7.previous_node_block(Eid.parse("dtn://relay/"), 2, 1),
    b7.bundle_age_block(70000, 3, 0),
    b7.hop_count_block(32, 1, 4, 2, b7.BlockFlags.REPLICATE),
)
REPORT = StatusReport(
    Assertion(True, 812345678999), Assertion(), Assertion(), Assertion(True), 9, Eid.parse("ipn:5.1"), 812345678901, 5
)
BUNDLES = [
    b7.Bundle(PRIMARY, (), b""),
    b7.Bundle(PRIMARY._replace(flags=0x74064, crc_type=1), BLOCKS, b"", 0, 1),
    b7.Bundle(PRIMARY._replace(source=NULL, flags=4), BLOCKS[2:], b"", 5, 0),
    b7.Bundle(PRIMARY._replace(flags=1, fragment_offset=1000, total_adu_length=100_000), BLOCKS, bytes(60_000)),
    b7.Bundle(
        PRIMARY._replace(flags=1, crc_type=1, sequence=8, fragment_offset=0, total_adu_length=70), (), bytes(30), 0, 1
    ),
    b7.Bundle(PRIMARY._replace(destination=Eid.parse("ipn:4000000000.18446744073709551615"), sequence=2**40), (), b""),
    b7.Bundle(PRIMARY._replace(created_ms=0, lifetime_ms=23), (b7.bundle_age_block(2**33, 24, 2),), b""),
]


def capture(bundles: list[bytes]) -> bytes:
    """A capture file of bundles, each with the name of the dissector that is to read it (exported PDU, tag 12)."""
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, LINKTYPE_UPPER_PDU)]
    for index, octets in enumerate(bundles):
        packet = struct.pack(">HH4sHH", 12, 4, b"bpv7", 0, 0) + octets
        records += [struct.pack("<IIII", index, 0, len(packet), len(packet)), packet]
    return b"".join(records)


# what tshark is asked for in each frame, in this order; a field that occurs again has its values joined by commas
FIELDS = [
    "bpv7.primary.bundle_flags",
    "bpv7.primary.dst_uri",
    "bpv7.primary.src_uri",
    "bpv7.primary.report_uri",
    "bpv7.create_ts.seqno",
    "bpv7.primary.lifetime",
    "bpv7.primary.frag_offset",
    "bpv7.primary.total_len",
    "bpv7.crc_type",
    "bpv7.crc_status",
    "bpv7.canonical.type_code",
    "bpv7.canonical.block_num",
    "bpv7.canonical.data",
    "bpv7.previous_node.uri",
    "bpv7.bundle_age.time",
    "bpv7.hop_count.limit",
    "bpv7.hop_count.current",
    "_ws.expert.message",
]


def expected(bundle: b7.Bundle) -> list[str]:
    """The values of FIELDS that the dissector must find."""
    primary, age = bundle.primary, [block for block in bundle.blocks if block.type == 7]
    hops, previous = ([block for block in bundle.blocks if block.type == kind] for kind in (10, 6))
    crc_types = [primary.crc_type, *(block.crc_type for block in bundle.blocks), bundle.payload_crc_type]
    return [
        f"{primary.flags:#018x}",
        *map(str, primary[2:5]),
        str(primary.sequence),
        str(primary.lifetime_ms),
        "" if primary.fragment_offset is None else str(primary.fragment_offset),
        "" if primary.total_adu_length is None else str(primary.total_adu_length),
        ",".join(map(str, crc_types)),
        ",".join("1" for crc_type in crc_types if crc_type),  # good
        ",".join([*(str(block.type) for block in bundle.blocks), "1"]),
        ",".join([*(str(block.number) for block in bundle.blocks), "1"]),
        ",".join([*(str(len(block.data)) for block in bundle.blocks), str(len(bundle.payload))]),
        "".join(str(b7.decode_previous_node(block.data)) for block in previous),
        "".join(str(b7.decode_bundle_age(block.data)) for block in age),
        *(",".join(str(b7.decode_hop_count(block.data)[part]) for block in hops) for part in (0, 1)),
        "",  # nothing to remark
    ]


def tshark(path: Path, bundles: list[bytes], fields: list[str]) -> list[list[str]]:
    """What tshark makes of each bundle."""
    path.write_bytes(capture(bundles))
    command = ["tshark", "-r", str(path), "-o", "bpv7.bp_compute_crc:TRUE", "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [line.split("\t") for line in output.splitlines()]


def test_every_field_is_read_as_it_was_meant(tmp_path: Path) -> None:
    found = tshark(tmp_path / "bundles.pcap", [b7.encode_bundle(bundle) for bundle in BUNDLES], FIELDS)
    assert len(found) == len(BUNDLES)
    assert found == [expected(bundle) for bundle in BUNDLES]


def test_an_altered_octet_is_seen(tmp_path: Path) -> None:
    """The check above can fail: of one bundle with the last octet of its hop count altered, tshark says a bad CRC."""
    data = b7.encode_bundle(BUNDLES[1])
    altered = data.replace(BLOCKS[2].data, BLOCKS[2].data[:-1] + b"\x02")
    assert altered != data
    found = tshark(tmp_path / "altered.pcap", [data, altered], FIELDS)
    assert found[0] == expected(BUNDLES[1])
    differing = {
        name for name, ours, theirs in zip(FIELDS, expected(BUNDLES[1]), found[1], strict=True) if ours != theirs
    }
    assert {"bpv7.crc_status", "bpv7.hop_count.current"} <= differing


REPORT_FIELDS = [
    "bpv7.admin_rec.type_code",
    "bpv7.status_assert.val",
    "bpv7.status_rep.reason_code",
    "bpv7.status_rep.subj_src_uri",
    "bpv7.status_rep.identity",
    "_ws.expert.message",
]


def test_a_status_report_is_read_as_it_was_meant(tmp_path: Path) -> None:
    """On a whole bundle: of a report on a fragment, tshark 4.0 leaves the last two items undissected."""
    data = b7.encode_bundle(b7.Bundle(PRIMARY._replace(flags=2, sequence=6), (), encode_admin(REPORT)))
    found = tshark(tmp_path / "reports.pcap", [data], REPORT_FIELDS)
    subject = "Source: ipn:5.1, DTN Time: 812345678901, Seq: 5"
    assert found == [["1", "1,0,0,1", "9", "ipn:5.1", subject, ""]]


def test_fragments_are_joined(tmp_path: Path) -> None:
    adu = bytes(range(250)) * 4
    pieces = [(0, 300), (300, 900), (900, 1000)]
    data = [
        b7.encode_bundle(
            b7.Bundle(
                PRIMARY._replace(flags=1, fragment_offset=start, total_adu_length=1000, sequence=9), (), adu[start:end]
            )
        )
        for start, end in pieces
    ]
    found = tshark(tmp_path / "fragments.pcap", data, ["bpv7.payload.reassembled.length", "bpv7.crc_status"])
    assert [row[1] for row in found] == ["1,1"] * 3
    assert found[2][0] == "1000"
