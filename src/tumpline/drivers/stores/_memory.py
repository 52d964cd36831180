"""Large payloads in memory: the very buffers they were received or written into, kept; very long ones in a memfd."""

from __future__ import annotations

import os

from tumpline.drivers.stores._files import BUFFER_OCTETS, Buffers, write_at
from tumpline.errors import StorageError

# Idle buffers for the next payloads (16 MiB). Their pages are there already: a fresh one's the system must clear first.
IDLE_BUFFERS_MAX = 64
# A longer payload moves into an anonymous memory file, whose pages no process maps: a node through which a file of many
# GiB passes stays small itself.
MAPPED_OCTETS_MAX = 16 << 20
# A buffer that would be kept for less than this is copied out of.
LEAST_KEPT_OCTETS = BUFFER_OCTETS // 4


class MemoryHandle:
    """One payload. Its buffers are given back at the last release."""

    __slots__ = ("_buffers", "_fd", "_kept", "_octets", "_readers")

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._kept: list[memoryview] = []  # each of BUFFER_OCTETS, but for the last
        self._octets = 0
        self._fd = -1
        self._readers = 1

    @property
    def fd(self) -> int:
        """Of a payload that `runs` does not give. Raises: StorageError."""
        if self._fd < 0:
            raise StorageError("a payload was read after its last reader had released it")
        return self._fd

    def runs(self, offset: int, length: int) -> list[memoryview] | None:
        """Where `length` octets from `offset` lie; None: in the file."""
        if not self._kept:
            return None
        found: list[memoryview] = []
        while length:
            index, begin = divmod(offset, BUFFER_OCTETS)
            run = self._kept[index][begin : begin + length]
            if not run:
                raise StorageError("a payload was read past its end")
            found.append(run)
            offset += len(run)
            length -= len(run)
        return found

    def keep(self, buffer: memoryview, used: int, buffers: Buffers) -> memoryview:
        offset, self._octets = self._octets, self._octets + used
        if self._octets > MAPPED_OCTETS_MAX:
            if self._fd < 0:
                self._move_out()
            write_at(self._fd, buffer[:used], offset)
            return buffer
        if used < LEAST_KEPT_OCTETS:
            self._kept.append(memoryview(bytes(buffer[:used])))
            return buffer
        self._kept.append(buffer[:used])
        return buffers.take()

    def _move_out(self) -> None:
        """Into a file. Raises: OSError."""
        self._fd = os.memfd_create("tumpline-payload", os.MFD_CLOEXEC)
        kept, self._kept = self._kept, []
        offset = 0
        for run in kept:
            write_at(self._fd, run, offset)
            offset += len(run)
        self._give_back(kept)

    def _give_back(self, kept: list[memoryview]) -> None:
        for run in kept:
            if not run.readonly:
                self._buffers.give(memoryview(run.obj))

    def retain(self) -> None:
        assert self._readers > 0, "retain after the last release"
        self._readers += 1

    def release(self) -> None:
        assert self._readers > 0, "release without retain"
        self._readers -= 1
        if not self._readers:
            kept, self._kept = self._kept, []
            self._give_back(kept)
            self.__del__()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
