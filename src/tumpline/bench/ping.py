"""ping: how long a bundle takes there and back between two agents, and how long an agent takes to start."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tumpline.bench.framework.agents import Agents
from tumpline.bench.framework.api import BenchSpec, Effort, Figure, latency
from tumpline.bench.framework.chain import Setup, running
from tumpline.bench.framework.measure import alternate
from tumpline.bench.framework.plain import run_plain
from tumpline.errors import TumplineError

PINGS = 300
_PING_LIMIT = "one bundle at a time over blocking sockets, RFC 9174 framing, CRCs checked; no agent, no store"
_START_LIMIT = "a Python process with asyncio, ssl and sqlite3, a database and two listening sockets"
_CONFIG = """\
[node]
id = "dtn://ground/"
state_dir = "state"

[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"
"""


def run(effort: Effort) -> Mapping[str, Figure]:
    """The figures of this bench."""
    starts = alternate(_start_s, _plain_start_s, effort.runs)
    return {
        "ping_median_ms": _ping("memory", effort),
        "ping_durable_median_ms": _ping("sqlite", effort),
        "start_s": latency(starts.ours, "s", starts.limit, _START_LIMIT),
    }


def _ping(store: str, effort: Effort) -> Figure:
    count = effort.scaled(PINGS)
    with running(Setup(store=store)) as chain:
        pings = alternate(partial(chain.ping_median_ms, count), partial(_plain_ping_ms, count), effort.runs)
    return latency(pings.ours, "ms", pings.limit, _PING_LIMIT)


def _plain_ping_ms(count: int) -> float:
    return run_plain(["echo"], "ping", count=count) * 1000


def _start_s() -> float:
    """From the command to the line that says that it listens."""
    with TemporaryDirectory(prefix="tumpline-bench-") as name, Agents(Path(name)) as agents:
        begin = time.perf_counter()
        agents.start("ground", _CONFIG)
        return time.perf_counter() - begin


def _plain_start_s() -> float:
    with TemporaryDirectory(prefix="tumpline-bench-") as name:
        begin = time.perf_counter()
        command = [sys.executable, "-m", "tumpline.bench.limits.start", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            elapsed = time.perf_counter() - begin
        if line != "ready\n":
            raise TumplineError("the plain program did not start")
        return elapsed


SPEC = BenchSpec(
    "ping",
    "round trips between two agents, and an agent's start",
    ("ping_median_ms", "ping_durable_median_ms", "start_s"),
    run,
)
