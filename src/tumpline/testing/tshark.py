"""tshark as an oracle: captures on loopback while agents talk, and says what it found."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

START_S = 30.0
MARK = "tumpline capture"
# What it cannot know: the payload's protocol, for an endpoint without a registered one.
NO_COMPLAINT = frozenset({"Unknown type code"})
# Said in a first pass of every segment: whether its acknowledgement comes, only a second one knows.
UNACKNOWLEDGED = "XFER_SEGMENT has no related XFER_ACK"
# Of the wire, not of us: which segments a capture on loopback sees when.
TCP_COMPLAINTS = re.compile(r"^(TCP|Connection|This frame|Previous segment|ACKed|Window|Duplicate|D-SACK|Keep-Alive)")


class Found(NamedTuple):
    """What tshark decoded."""

    bundles: int
    complaints: list[str]


class Capture:
    """Packets of one TCP port on loopback, from `with` to the end of its block, into a file.

    The kernel hands packets over in blocks, so neither the start nor the end of a capture is a moment that anybody could
    wait for: datagrams with a mark are sent to the same port until the file holds them."""

    def __init__(self, path: Path, port: int) -> None:
        self.path = path
        self.port = port
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        # A buffer for the burst: a packet that the capture loses would read as one that we lost.
        command = ["dumpcap", "-q", "-B", "64", "-i", "lo", "-f", f"port {self.port}", "-w", str(self.path)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self._mark(f"{MARK} begins".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        try:
            self._mark(f"{MARK} ends".encode())
        finally:
            self._process.send_signal(signal.SIGINT)
            self._process.communicate(timeout=START_S)

    def _mark(self, mark: bytes) -> None:
        assert self._process is not None
        end = time.monotonic() + START_S
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            while not (self.path.exists() and mark in self.path.read_bytes()):
                if self._process.poll() is not None or time.monotonic() > end:
                    self._process.kill()
                    raise AssertionError(f"dumpcap captures nothing on loopback: {self._process.communicate()[1]}")
                probe.sendto(mark, ("127.0.0.1", self.port))
                time.sleep(0.05)

    def find(self, key_log: Path | None = None) -> Found:
        """Decode the capture."""
        return find(self.path, self.port, key_log)

    def values(self, field: str) -> list[str]:
        """All that tshark has for this field, in order."""
        return values(self.path, self.port, field)


def find(path: Path, port: int, key_log: Path | None = None) -> Found:
    """Bundles and complaints of a capture whose TCPCL runs on this port."""
    # One pass shows every bundle, also several in one packet; only a second one knows of a segment whether its
    # acknowledgement comes, but it shows only the last bundle of a packet.
    # (Not by their destination: of an ipn EID in three elements, RFC 9758, tshark 4.0 shows no URI.)
    bundles = [value for row in _fields(path, port, key_log, "bpv7.primary.version") for value in row]
    experts = [value for row in _fields(path, port, key_log, "_ws.expert.message", "-2") for value in row]
    complaints = [text for text in experts if text not in NO_COMPLAINT and not TCP_COMPLAINTS.match(text)]
    return Found(len(bundles), complaints)


def values(path: Path, port: int, field: str, key_log: Path | None = None) -> list[str]:
    """All that tshark has for this field, in order."""
    return [value for row in _fields(path, port, key_log, field) for value in row]


def remarks(path: Path, port: int, key_log: Path | None = None) -> list[str]:
    """What tshark remarks on each single bundle, also on those of which many lie in one packet."""
    experts = values(path, port, "_ws.expert.message", key_log)
    known = NO_COMPLAINT | {UNACKNOWLEDGED}
    return [text for text in experts if text and text not in known and not TCP_COMPLAINTS.match(text)]


def find_udpcl(path: Path, dissector: Path, key_log: Path | None = None) -> Found:
    """The same of a capture of UDPCL on its own port; `dissector` is docs/udpcl.lua. Complaints are those of single
    bundles, too: a datagram carries few."""
    options = ["-X", f"lua_script:{dissector}", "-o", "bpv7.bp_compute_crc:TRUE"]
    if key_log is not None:
        options += ["-o", f"tls.keylog_file:{key_log}"]
    shown = f'udp && !(frame contains "{MARK}")'
    bundles, experts = (
        [value for row in _run(path, options, shown, field) for value in row]
        for field in ("bpv7.primary.version", "_ws.expert.message")
    )
    return Found(len(bundles), [text for text in experts if text not in NO_COMPLAINT])


def _fields(path: Path, port: int, key_log: Path | None, field: str, *options: str) -> list[list[str]]:
    command = [*options, "-d", f"tcp.port=={port},tcpcl"]
    command += ["-o", "bpv7.bp_compute_crc:TRUE", "-o", "tcp.desegment_tcp_streams:TRUE"]
    command += ["-o", "tcp.reassemble_out_of_order:TRUE"]
    if key_log is not None:
        command += ["-o", f"tls.keylog_file:{key_log}"]
    # Only TCP: the marks of `Capture` go by UDP, and some port numbers make tshark guess at what they are.
    return _run(path, command, "tcp", field)


def _run(path: Path, options: Sequence[str], shown: str, field: str) -> list[list[str]]:
    """For each packet that is shown and has the field, its values."""
    command = ["tshark", *options, "-r", str(path), "-Y", shown, "-T", "fields", "-e", field]
    command += ["-E", "aggregator=|", "-E", "occurrence=a"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [line.split("|") for line in done.stdout.splitlines() if line]
