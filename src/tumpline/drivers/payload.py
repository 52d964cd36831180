"""Reading payloads, whatever holds them. Handles are counted: whoever keeps a payload past a call retains it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol, cast

from tumpline.errors import StorageError
from tumpline.machines.contract import FileRange, Payload

# Large payloads are read in pieces of this size: enough to make the system call cheap, small beside any memory limit.
PIECE_OCTETS = 1 << 20


class FileHandle(Protocol):
    """What every handle of this process is: an open file descriptor, counted."""

    @property
    def fd(self) -> int:
        """Readable at any offset."""


def descriptor(payload: FileRange) -> int:
    """The file descriptor that holds the payload."""
    return cast(FileHandle, payload.handle).fd


def read_range(payload: Payload, offset: int, length: int) -> bytes:
    """`length` octets of the payload from `offset`. Raises: StorageError if the file does not hold them."""
    if not isinstance(payload, FileRange):
        return payload.data[offset : offset + length]
    data = os.pread(descriptor(payload), length, payload.offset + offset)
    if len(data) != length:
        raise StorageError(f"a payload file is {length - len(data)} octets short: the file was cut from outside")
    return data


def pieces(payload: Payload, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
    """The octets in pieces of PIECE_OCTETS. Raises: StorageError."""
    end = payload.length if length is None else offset + length
    while offset < end:
        take = min(PIECE_OCTETS, end - offset)
        yield read_range(payload, offset, take)
        offset += take


def retain(payload: Payload) -> None:
    """One more reader of the payload."""
    if isinstance(payload, FileRange):
        payload.handle.retain()


def release(payload: Payload) -> None:
    """One reader of the payload fewer."""
    if isinstance(payload, FileRange):
        payload.handle.release()
