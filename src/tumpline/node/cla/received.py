"""Received bundles that wait for somebody to take them, by number: as octets, as a file or as a descriptor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tumpline.drivers.payload import release
from tumpline.drivers.spool import OpenFile, memory_file, name_file, reading, write_file
from tumpline.machines.contract import FileRange, Octets, Payload
from tumpline.node.cla.holdings import HELD_OCTETS, Holdings, TransferError, UnknownTransferError

VALUE_OCTETS_MOST: Final = 64 << 20  # given away in one value: D-Bus has no longer arrays


class Received:
    """`emptied` is called when the last one has been taken. Octets of each are lent of the room of its kind."""

    def __init__(self, holdings: Holdings, emptied: Callable[[], None]) -> None:
        self._holdings = holdings
        self._emptied = emptied
        self._received: dict[str, Payload] = {}
        self._in_hand: set[str] = set()  # of those, being copied to whoever takes them

    def __len__(self) -> int:
        """How many wait, those in somebody's hand too."""
        return len(self._received)

    @property
    def queue(self) -> list[str]:
        """Received bundles that nobody has taken."""
        return [number for number in self._received if number not in self._in_hand]

    async def pop_data(self, number: str) -> bytes:
        """Take a bundle as octets. Raises: UnknownTransferError, TransferError (too large for that), OSError."""
        payload = self._find(number)
        if isinstance(payload, Octets):
            self._remove(number)
            return payload.data
        if payload.length > VALUE_OCTETS_MOST:
            raise TransferError(
                f"bundle {number} has {payload.length} octets, more than one value of D-Bus holds: "
                "take it by recv_bundle_pop_file or recv_bundle_pop_fd"
            )
        with self._taking(number, payload):
            return await asyncio.to_thread(os.pread, _fd(payload), payload.length, 0)

    async def pop_file(self, number: str, path: str, mode: int) -> None:
        """Take a bundle as a new file. Raises: UnknownTransferError, OSError (FileExistsError ...): it stays here then."""
        payload = self._find(number)
        with self._taking(number, payload):
            if isinstance(payload, Octets):
                await write_file(payload.data, path, mode)
            else:
                await name_file(_fd(payload), path, mode)

    def pop_fd(self, number: str) -> int:
        """Take a bundle as an open file, the caller's. Raises: UnknownTransferError, OSError: it stays here then."""
        payload = self._find(number)
        fd = memory_file(payload.data) if isinstance(payload, Octets) else reading(_fd(payload))
        self._remove(number)
        return fd

    def keep(self, number: str, payload: Payload) -> None:
        """It waits from now on; its octets were lent of the room of its kind."""
        self._received[number] = payload

    def discard(self) -> None:
        """Nobody will take what is left."""
        received, self._received = self._received, {}
        for payload in received.values():
            self._free(payload)

    def _find(self, number: str) -> Payload:
        payload = self._received.get(number)
        if payload is None or number in self._in_hand:
            raise UnknownTransferError(f"no received bundle {number!r} waits here; see recv_bundle_get_queue")
        return payload

    @contextmanager
    def _taking(self, number: str, payload: Payload) -> Iterator[None]:
        """While a bundle is copied nobody else takes it and its file stays open. If all goes well it is gone from here."""
        self._in_hand.add(number)
        if isinstance(payload, FileRange):
            payload.handle.retain()
        try:
            yield
        finally:
            self._in_hand.discard(number)
            release(payload)
        if number in self._received:
            self._remove(number)

    def _remove(self, number: str) -> None:
        self._free(self._received.pop(number))
        if not self._received:
            self._emptied()

    def _free(self, payload: Payload) -> None:
        release(payload)
        if isinstance(payload, FileRange):
            self._holdings.spool.room.give(payload.length)
        else:
            self._holdings.received.give(payload.length + HELD_OCTETS)


def _fd(payload: FileRange) -> int:
    assert isinstance(payload.handle, OpenFile)
    return payload.handle.fd


def process_umask() -> int:
    """Of this process; there is no way to look without touching."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
