"""Reading payloads, whatever holds them. Handles are counted: whoever keeps a payload past a call retains it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol, cast

from tumpline.errors import StorageError
from tumpline.machines.contract import FileRange, Payload

# Held in memory at a time: stays in a second-level cache (1 MiB is copied at half the speed), and the loop responsive.
PIECE_OCTETS = 256 * 1024


class FileHandle(Protocol):
    """What every handle of this process is: octets in memory, or an open file descriptor; counted."""

    @property
    def fd(self) -> int:
        """Readable at any offset, if `runs` gives None."""

    def runs(self, offset: int, length: int) -> list[memoryview] | None:
        """Where in memory these octets lie, one run behind the other; None: in a file."""


def in_memory(payload: FileRange, offset: int, length: int) -> list[memoryview] | None:
    """Where in memory these octets of the payload lie, as long as a reader holds it; None: in a file."""
    return cast(FileHandle, payload.handle).runs(payload.offset + offset, length)


def descriptor(payload: FileRange) -> int:
    """The file descriptor that holds the payload if it is not in memory."""
    return cast(FileHandle, payload.handle).fd


def read_range(payload: Payload, offset: int, length: int) -> bytes:
    """`length` octets of the payload from `offset`. Raises: StorageError if the file does not hold them."""
    if not isinstance(payload, FileRange):
        return payload.data[offset : offset + length]
    runs = in_memory(payload, offset, length)
    if runs is not None:
        return bytes(runs[0]) if len(runs) == 1 else b"".join(runs)
    data = os.pread(descriptor(payload), length, payload.offset + offset)
    if len(data) != length:
        raise StorageError(f"a payload file is {length - len(data)} octets short: the file was cut from outside")
    return data


def pieces(payload: Payload, offset: int = 0, length: int | None = None) -> Iterator[bytes | memoryview]:
    """The octets, at most PIECE_OCTETS at a time; views are good as long as a reader holds the payload.
    Raises: StorageError."""
    end = payload.length if length is None else offset + length
    runs = (
        in_memory(payload, offset, end - offset)
        if isinstance(payload, FileRange)
        else [memoryview(payload.data)[offset:end]]
    )
    if runs is not None:
        yield from runs
        return
    for begin in range(offset, end, PIECE_OCTETS):
        yield read_range(payload, begin, min(PIECE_OCTETS, end - begin))


def retain(payload: Payload) -> None:
    """One more reader of the payload."""
    if isinstance(payload, FileRange):
        payload.handle.retain()


def release(payload: Payload) -> None:
    """One reader of the payload fewer."""
    if isinstance(payload, FileRange):
        payload.handle.release()
