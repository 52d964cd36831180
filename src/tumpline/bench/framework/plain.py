"""Runs the plainest programs of `limits/stream.py` as processes, as many of them as there are agents on our side."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

from tumpline.errors import TumplineError

_HANG_S = 60.0


def _start(stack: ExitStack, role: str, task: dict[str, Any], program: str = "stream") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"tumpline.bench.limits.{program}", role, json.dumps(task)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        raise TumplineError(f"the plain program ended early: {process.stderr.read().strip()[-500:]}")
    return line


def run_plain(listeners: list[str], sender: str, *, program: str = "stream", **task: Any) -> float:
    """Start the listening roles (the last one of the chain first), then the sender. Returns: the number it prints."""
    with ExitStack() as stack:
        port, started = 0, []
        for role in listeners:
            process = _start(stack, role, task | {"next_port": port}, program)
            port = int(_first_line(process))
            started.append(process)
        result = float(_first_line(_start(stack, sender, task | {"next_port": port}, program)))
        for process in started:
            if process.wait(_HANG_S) != 0:
                raise TumplineError(
                    f"the plain program failed with exit code {process.returncode}"
                )  # its assertions are the check of the sink
        return result


def plain_rss_mib() -> float:
    """The most memory that the plain sink held while it took some bundles."""
    with ExitStack() as stack:
        sink = _start(stack, "sink", {"count": 10_000})
        port = int(_first_line(sink))
        _first_line(_start(stack, "source", {"count": 10_000, "next_port": port}))
        return float(_first_line(sink))
