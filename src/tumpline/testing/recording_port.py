"""A host of packet ports that keeps what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tumpline.machines.packets import PacketBatch
from tumpline.wire.virtio_net import split

HANG_S = 20.0


class RecordingPortHost:
    """A `PortHost`. Packets are kept as they would cross a wire, records as they came."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []  # header, packet
        self.batches: list[int] = []  # how many packets in each
        self.up: list[dict[str, Any]] = []
        self.down: list[str] = []
        self._changed = asyncio.Event()

    def from_port(self, batch: PacketBatch) -> None:
        self.batches.append(batch.count)
        self.records += [(bytes(offload), bytes(packet)) for offload, packet in batch.records()]
        self._changed.set()

    def port_up(self, **facts: Any) -> None:
        self.up.append(facts)
        self._changed.set()

    def port_down(self, reason: str) -> None:
        self.down.append(reason)
        self._changed.set()

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Raises: TimeoutError that names `what`."""
        try:
            async with asyncio.timeout(HANG_S):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"still waiting for {what}") from None

    async def packets(self, count: int) -> list[bytes]:
        """All that have come, once they are `count` at the least."""

        def come() -> list[bytes]:
            return [packet for record in self.records for packet in split(*record)]

        await self.until(lambda: len(come()) >= count, f"{count} packets")
        return come()
