"""tshark decodes what our sessions say: every transfer, every bundle, and nothing to complain about."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.machines.tcpcl4.events import TransfersAcked
from tumpline.testing.pcap import Chunk, tcp_conversation
from tumpline.testing.tcpcl4 import Pair
from tumpline.wire.bundle7 import Bundle, PrimaryBlock, encode_bundle
from tumpline.wire.eid import Eid
from tumpline.wire.tcpcl4 import MessageType, RefusalCode, TerminationCode

TCPCL_PORT = 4556
PAYLOAD_OCTETS = [0, 1, 100, 200, 999, 1000, 2500, 10_000]
SEGMENT_MRU = 600
CLIENT_PORT = 50_000
EXPECTED = {(port, number) for port in (CLIENT_PORT, TCPCL_PORT) for number in range(len(PAYLOAD_OCTETS))}
# It knows no protocol for the payload of dtn://passive/sink: no complaint about us.
UNDECODED_PAYLOAD = "Unknown type code"


class Decoded(NamedTuple):
    """What tshark found in a capture."""

    transfers: set[tuple[int, int]]  # source port, Transfer ID: segments with END
    acknowledged: set[tuple[int, int]]  # the same of acknowledgements with END
    types: Counter[int]  # messages by type
    bundles: int
    complaints: list[str]


def tshark(capture: Path, *fields: str) -> list[list[list[str]]]:
    """For each packet with TCPCL, for each field, its values."""
    # Two passes: only then does it know of a segment whether its acknowledgement comes.
    command = ["tshark", "-2", "-r", str(capture), "-o", "bpv7.bp_compute_crc:TRUE", "-Y", "tcpcl", "-T", "fields"]
    command += [part for field in fields for part in ("-e", field)]
    command += ["-E", "separator=/t", "-E", "aggregator=|", "-E", "occurrence=a"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [[cell.split("|") if cell else [] for cell in line.split("\t")] for line in done.stdout.splitlines()]


def decode(capture: Path) -> Decoded:
    """Ask tshark."""
    rows = tshark(
        capture,
        "tcp.srcport",
        "tcpcl.v4.mhdr.type",
        "tcpcl.v4.xfer_id",
        "tcpcl.v4.xfer_flags.end",
        "bpv7.primary.dst_uri",
        "_ws.expert.message",
    )
    transfers: set[tuple[int, int]] = set()
    acknowledged: set[tuple[int, int]] = set()
    types: Counter[int] = Counter()
    bundles, complaints = 0, list[str]()
    for ports, kinds, numbers, ends, destinations, expert in rows:
        types.update(int(kind, 0) for kind in kinds)
        of_transfers = [int(kind, 0) for kind in kinds if int(kind, 0) <= MessageType.XFER_ACK]
        for kind, number, end in zip(of_transfers, numbers, ends, strict=True):
            if end in ("1", "True"):
                found = transfers if kind == MessageType.XFER_SEGMENT else acknowledged
                found.add((int(ports[0]), int(number, 0)))
        bundles += len(destinations)
        complaints += [text for text in expert if text != UNDECODED_PAYLOAD]
    return Decoded(transfers, acknowledged, types, bundles, complaints)


def bundle(sequence: int, payload_octets: int) -> bytes:
    source = Eid.parse("dtn://active/")
    primary = PrimaryBlock(
        0, 2, Eid.parse("dtn://passive/sink"), source, source, 1_000_000, sequence, 60_000, None, None
    )
    return encode_bundle(Bundle(primary, (), bytes(payload_octets)))


def conversation() -> list[Chunk]:
    """A session that carries a bundle of each size in both directions, in small segments, and ends."""
    pair = Pair(
        SessionConfig(node_id="dtn://active/", segment_mru=SEGMENT_MRU),
        SessionConfig(node_id="dtn://passive/", segment_mru=SEGMENT_MRU),
    ).connect()
    pair.most = 1  # a transfer a packet: of several in one, the second pass shows only the last bundle
    for token, octets in enumerate(PAYLOAD_OCTETS):
        pair.active.offer(token, bundle(token, octets), pair.now)
        pair.passive.offer(token, bundle(token, octets), pair.now)
    pair.settle()
    pair.active.session.terminate(TerminationCode.UNKNOWN, pair.now)
    pair.settle()
    assert sum(len(event.tokens) for event in pair.active.of(TransfersAcked)) == len(PAYLOAD_OCTETS)
    return pair.trace


def write(path: Path, chunks: list[Chunk]) -> Path:
    path.write_bytes(tcp_conversation(chunks, TCPCL_PORT, CLIENT_PORT))
    return path


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    return conversation()


def is_complete(decoded: Decoded) -> bool:
    """The check: exactly our transfers, each acknowledged, each a bundle, and not one complaint."""
    return (
        decoded.transfers == EXPECTED
        and decoded.acknowledged == EXPECTED
        and decoded.bundles == len(EXPECTED)
        and not decoded.complaints
    )


def test_tshark_decodes_every_transfer(chunks: list[Chunk], tmp_path: Path) -> None:
    decoded = decode(write(tmp_path / "session.pcap", chunks))
    assert is_complete(decoded), decoded
    segments = 2 * sum(-(-len(bundle(0, octets)) // SEGMENT_MRU) for octets in PAYLOAD_OCTETS)
    assert decoded.types == {
        MessageType.SESS_INIT: 2,
        MessageType.XFER_SEGMENT: segments,
        MessageType.XFER_ACK: segments,
        MessageType.SESS_TERM: 2,
    }


def test_tshark_decodes_refusals_and_upkeep(tmp_path: Path) -> None:
    pair = Pair(SessionConfig(node_id="dtn://active/"), SessionConfig(node_id="dtn://passive/")).connect()
    pair.passive.decide = lambda _: RefusalCode.NO_RESOURCES
    pair.active.offer(0, bundle(0, FILE_PAYLOAD_OCTETS), pair.now)
    pair.settle()
    pair.advance(59)
    pair.passive.session.terminate(TerminationCode.BUSY, pair.now)
    pair.settle()
    capture = write(tmp_path / "upkeep.pcap", pair.trace)
    rows = tshark(capture, "tcpcl.v4.mhdr.type", "tcpcl.v4.xfer_refuse.reason", "tcpcl.v4.ses_term.reason")
    kinds, refused, terminated = ([int(value, 0) for row in rows for value in row[column]] for column in range(3))
    assert kinds.count(MessageType.KEEPALIVE) == 2
    assert kinds.count(MessageType.XFER_REFUSE) == 1
    assert refused == [RefusalCode.NO_RESOURCES]
    assert terminated == [TerminationCode.BUSY, TerminationCode.BUSY]


WHERE: dict[str, tuple[Callable[[bytes], bool], int]] = {  # which chunk, which of its octets
    "flags of a segment": (lambda data: data[0] == MessageType.XFER_SEGMENT, 1),
    "length of an acknowledgement": (lambda data: data[0] == MessageType.XFER_ACK, 17),
    "primary block": (lambda data: b"//passive/sink" in data, 60),
    "payload": (lambda data: bytes(400) in data, 400),
}


@pytest.mark.parametrize("where", WHERE)
def test_one_altered_octet_is_seen(chunks: list[Chunk], tmp_path: Path, where: str) -> None:
    """The oracle is awake."""
    matches, offset = WHERE[where]
    index = next(index for index, chunk in enumerate(chunks) if matches(chunk.data))
    data = bytearray(chunks[index].data)
    data[offset] ^= 0x01
    altered = [*chunks[:index], chunks[index]._replace(data=bytes(data)), *chunks[index + 1 :]]
    assert not is_complete(decode(write(tmp_path / "altered.pcap", altered)))
