"""Room kept free for the day the disk is full: even to remove bundles, a database must first write."""

from __future__ import annotations

import os
from pathlib import Path

# Twice the log at its longest between two checkpoints: enough to copy all of it into the database and begin it anew.
RESERVE_OCTETS_MAX = 32 << 20
# A small disk is there for bundles as well: no more of it than this part.
RESERVED_PART = 8


def reserve_octets(directory: Path) -> int:
    """How much to reserve on the disk of a directory. Raises: OSError."""
    disk = os.statvfs(directory)
    return min(RESERVE_OCTETS_MAX, disk.f_blocks * disk.f_frsize // RESERVED_PART)


class Reserve:
    """A file of nothing, given up when removing fails for lack of room, and taken again as soon as there is some."""

    def __init__(self, path: Path, octets: int) -> None:
        self._path = path
        self.octets = octets
        self.held = False

    def hold(self) -> bool:
        """Take the room; whether it is held now."""
        if not self.held:
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(fd, 0, self.octets)
                finally:
                    os.close(fd)
                self.held = True
            except OSError:  # no room (or no right to it): what little was taken is given back
                self.give_up()
        return self.held

    def give_up(self) -> None:
        """Let the room be used."""
        self._path.unlink(missing_ok=True)
        self.held = False
