"""dbus-file: a file from one TCPCL agent to the other, asked for and taken over D-Bus."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tumpline.bench.framework.api import BenchSpec, Effort, Figure, latency, throughput
from tumpline.bench.framework.measure import alternate
from tumpline.bench.framework.plain import plain_rss_mib, run_plain
from tumpline.bench.framework.tcpcl_agents import SENDER, TcpclAgents, running
from tumpline.bench.limits.file import SOURCE, TARGET

LARGE_MIB = 1024
SMALL_OCTETS, SMALL_FILES = 10 << 10, 2000
_PLAIN = "two processes, blocking sockets, RFC 9174 framing, a file written, named and acknowledged; no agent, no bus"


def run(effort: Effort) -> Mapping[str, Figure]:
    """The figures of this bench."""
    figures: dict[str, Figure] = {}
    large_octets = effort.scaled(LARGE_MIB) << 20
    with running(tls=False) as agents:
        figures["file_1GiB_gbit_s"] = _gbit_s(agents, effort, large_octets, _PLAIN)
        figures["file_10KiB_per_s"] = _per_s(agents, effort)
        rss_mib = agents.rss_max_mib()
    with running(tls=True) as agents:
        figures["file_1GiB_tls_gbit_s"] = _gbit_s(agents, effort, large_octets, f"{_PLAIN}; mutual TLS 1.3")
        rss_mib = max(rss_mib, agents.rss_max_mib())
    figures["rss_max_mib"] = latency(rss_mib, "MiB", plain_rss_mib(), "the plain sink's process")
    return {key: figures[key] for key in SPEC.figures}


def _gbit_s(agents: TcpclAgents, effort: Effort, octets: int, limit_is: str) -> Figure:
    sources = _make_files(agents.directory, 1, octets)
    pair = alternate(partial(_seconds, agents, sources), partial(_plain_seconds, agents, sources), effort.runs)
    gbit = octets * 8 / 1e9
    return throughput(gbit / pair.ours, "Gbit/s", gbit / pair.limit, limit_is)


def _per_s(agents: TcpclAgents, effort: Effort) -> Figure:
    count = effort.scaled(SMALL_FILES)
    sources = _make_files(agents.directory, count, SMALL_OCTETS)
    pair = alternate(partial(_seconds, agents, sources), partial(_plain_seconds, agents, sources), effort.runs)
    return throughput(count / pair.ours, "files/s", count / pair.limit, _PLAIN)


def _make_files(directory: Path, count: int, octets: int) -> list[Path]:
    """Distinct ones, of octets that nothing can make shorter."""
    sources = [directory / SOURCE.format(index) for index in range(count)]
    for source in sources:
        with source.open("wb") as file:
            for begin in range(0, octets, 1 << 20):
                file.write(os.urandom(min(1 << 20, octets - begin)))
    return sources


def _seconds(agents: TcpclAgents, sources: Sequence[Path]) -> float:
    _stamp(sources)
    return agents.seconds(sources)


def _plain_seconds(agents: TcpclAgents, sources: Sequence[Path]) -> float:
    _stamp(sources)
    tls = None if agents.certificates is None else str(agents.certificates.all_in_one(SENDER))
    task = {"count": len(sources), "tls": tls, "directory": str(agents.directory)}
    try:
        return run_plain(["sink"], "source", program="file", **task)
    finally:
        for index in range(len(sources)):
            (agents.directory / TARGET.format(index)).unlink(missing_ok=True)


def _stamp(sources: Sequence[Path]) -> None:
    """No run sends what the one before sent."""
    for source in sources:
        with source.open("r+b") as file:
            file.write(os.urandom(16))


SPEC = BenchSpec(
    "dbus-file",
    "a file through two TCPCL agents, steered over D-Bus",
    ("file_1GiB_gbit_s", "file_1GiB_tls_gbit_s", "file_10KiB_per_s", "rss_max_mib"),
    run,
)
