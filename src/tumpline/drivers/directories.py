"""Directories that outlive a power cut: a name is on the disk only once the directory that it stands in was synced."""

from __future__ import annotations

import os
import tempfile
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


def runtime_dir() -> Path:
    """The directory of this user's sockets: for its user alone."""
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if os.path.isdir(base) and os.access(base, os.W_OK):
        return Path(base) / "tumpline"
    return Path(tempfile.gettempdir()) / f"tumpline-{os.getuid()}"
