"""Directories that outlive a power cut: a name is on the disk only once the directory that it stands in was synced."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE = 0o700


def sync_directory(path: Path) -> None:
    """Make the names in it durable. Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Make it (mode 0700, its parents too) if it is not there, durably. Raises: OSError."""
    for missing in reversed([each for each in (path, *path.parents) if not each.exists()]):
        missing.mkdir(mode=PRIVATE, exist_ok=True)
        sync_directory(missing.parent)
