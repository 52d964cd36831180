"""Bundles that people bring in files: to the machine they come over a path like any other, whose peer is nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tumpline.errors import MalformedError, RefusedError, StorageError
from tumpline.machines.effects import Arrival, PathInfo, RefuseReason, Unit
from tumpline.node.runtime import Runtime
from tumpline.wire.bundle7 import Strictness, bundle_id, decode_head_untrusted
from tumpline.wire.eid import Eid


class ImportLink:
    """The link whose sessions are `tumpline bundles import`. Nothing is ever sent over it."""

    name = "import"

    def __init__(self, runtime: Runtime, strictness: Strictness) -> None:
        self._runtime = runtime
        self._path = runtime.new_path(self)
        self._strictness = strictness
        self._last_transfer = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}
        runtime.machine.path_up(PathInfo(self._path, self.name, None, "control", True, 0), runtime.now())

    async def take(self, arrival: Arrival) -> str:
        """The bundle's identity once it is stored. Raises: MalformedError, RefusedError, StorageError (no room)."""
        head = decode_head_untrusted(arrival.data, strictness=self._strictness)
        if head is None:
            raise MalformedError("the file ends before the payload of its bundle begins")
        self._last_transfer += 1
        done = self._waiting[self._last_transfer] = asyncio.get_running_loop().create_future()
        arrival = arrival._replace(transfer=self._last_transfer)
        self._runtime.machine.received(self._path, [arrival], self._runtime.now())
        self._runtime.turn()
        await done
        return str(bundle_id(head.primary, head.payload_length))

    def acknowledge(self, _path: int, transfers: Sequence[int]) -> None:
        for transfer in transfers:
            done = self._waiting.pop(transfer)
            if not done.done():
                done.set_result(None)

    def refuse(self, _path: int, transfer: int, reason: RefuseReason) -> None:
        done = self._waiting.pop(transfer)
        if not done.done():
            text = f"this node does not take the bundle: {reason.value}"
            full = reason is RefuseReason.NO_RESOURCES  # nobody's policy: the disk or the quota
            done.set_exception(
                StorageError(f"{text}; free some room, or raise its quota") if full else RefusedError(text)
            )

    # What an import has no use for.

    async def start(self, host: Any) -> None: ...

    async def stop(self, *, graceful: bool = True, timeout_s: float = 5.0) -> None: ...

    def connect(self, address: str, peer: Eid | None = None) -> None: ...

    def disconnect(self, address: str | None, path: int | None, reason: str) -> None: ...

    def offer(self, path: int, units: Sequence[Unit]) -> None: ...

    def cancel(self, path: int, seq: int) -> None: ...

    def describe(self) -> dict[str, Any]:
        return {}
