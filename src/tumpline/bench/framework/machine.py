"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

_SPIN_ROUNDS = 9
_SPIN_STEPS = 200_000


def describe_machine() -> dict[str, Any]:
    """Processor, memory, kernel, Python, load, and how steady the machine is right now."""
    fastest, spread = _spin()
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
        "spin_ms": round(fastest * 1000, 3),
        "noise": round(spread, 3),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _spin() -> tuple[float, float]:
    """Seconds of a fixed loop at its fastest, and by how much the median was slower (0.05 = 5 %)."""
    times = []
    for _ in range(_SPIN_ROUNDS):
        begin = time.perf_counter()
        sum(range(_SPIN_STEPS))
        times.append(time.perf_counter() - begin)
    return min(times), statistics.median(times) / min(times) - 1
