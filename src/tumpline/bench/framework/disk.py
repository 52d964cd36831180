"""Where benches keep their files, and what a disk it is: durable figures say nothing without it."""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tumpline.errors import ConfigError

_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})  # a sync costs nothing there, and keeps nothing
_SYNCS = 100
_WRITE_OCTETS = 4096  # a page of the log, what a small transaction writes


@contextmanager
def working_in(directory: Path | None) -> Iterator[Path]:
    """Temporary directories are made there (None: where the system has them), also by the programs that are started."""
    if directory is None:
        yield Path(tempfile.gettempdir())
        return
    if not os.access(directory, os.W_OK | os.X_OK) or not directory.is_dir():
        raise ConfigError(f"{directory} is no directory that can be written: choose another --directory")
    former, environment = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(directory.absolute())
    try:
        yield directory
    finally:
        tempfile.tempdir = former
        if environment is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = environment


def describe_disk(directory: Path) -> dict[str, Any]:
    """File system and sync latency. Raises: ConfigError if what is synced there does not outlive a power cut."""
    kind = file_system(directory.resolve(), _MOUNTS.read_text())
    if kind in _IN_MEMORY:
        raise ConfigError(
            f"{directory} lies in memory ({kind}): a durable store's figures would be figures of memory; choose one on a"
            " disk with --directory DIR"
        )
    return {
        "directory": str(directory),
        "file_system": kind,
        "fdatasync_median_ms": round(_fdatasync_median_s(directory) * 1000, 3),
        "fdatasyncs": _SYNCS,
    }


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that `path` (absolute, without links) lies on, by the lines of mountinfo (proc(5))."""
    longest, kind = -1, "unknown"
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        # Of two mounted at the same point, the later one hides the earlier.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            longest, kind = len(point.parts), after.split()[0]
    return kind


def _fdatasync_median_s(directory: Path) -> float:
    """Of appending a page and syncing it."""
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        times = []
        for _ in range(_SYNCS):
            file.write(bytes(_WRITE_OCTETS))
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times)
