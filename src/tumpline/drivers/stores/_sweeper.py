"""Unlinking payload files apart from the writer thread: nobody's commit waits for it.

A file system takes a tenth of a millisecond to free a small file and many milliseconds for a large one; when thousands of
bundles are removed together that is seconds, none of which needs to pass before anything else. A file that is left over when
the process dies is removed at the next start.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

from tumpline.drivers.stores._files import PayloadDirectory
from tumpline.errors import StorageError


class Sweeper:
    """A thread that unlinks files by number, in the order they came."""

    def __init__(self, files: PayloadDirectory, failed: Callable[[StorageError], None], name: str) -> None:
        self._files = files
        self._failed = failed  # called on the sweeper's thread
        self._numbers: SimpleQueue[int | None] = SimpleQueue()  # None: the end
        self._thread = Thread(target=self._sweep, name=name, daemon=True)
        self.put: Callable[[int], None] = self._numbers.put

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Return when all that came before is unlinked."""
        self._numbers.put(None)
        self._thread.join()

    def sweep_rest(self) -> None:
        """Unlink what came after `finish`, on the caller's thread."""
        while not self._numbers.empty():
            number = self._numbers.get_nowait()
            assert number is not None
            self.unlink(number)

    def unlink(self, number: int) -> None:
        """On the caller's thread."""
        try:
            self._files.unlink(number)
        except StorageError as error:  # it stays until the next start, which removes it
            self._failed(error)

    def _sweep(self) -> None:
        while (number := self._numbers.get()) is not None:
            self.unlink(number)
