"""Room kept free for the day the disk is full: even to remove bundles, a database must first write."""

from __future__ import annotations

import os
from pathlib import Path

# Twice the log at its longest between two checkpoints: enough to copy all of it into the database and begin it anew.
RESERVE_OCTETS = 32 << 20


class Reserve:
    """A file of nothing, given up when removing fails for lack of room, and taken again as soon as there is some."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.held = False

    def hold(self) -> bool:
        """Take the room; whether it is held now."""
        if not self.held:
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(fd, 0, RESERVE_OCTETS)
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
