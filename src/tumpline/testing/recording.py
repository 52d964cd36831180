"""A node as a link sees it, that remembers everything: `RecordingHost`, and a sink in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from tumpline.errors import StorageError
from tumpline.machines.contract import FileRange
from tumpline.machines.effects import Arrival, PathInfo, RefuseReason

HANG_S = 20.0  # nothing on loopback takes so long; only a test that would fail waits for it


class MemorySink:
    """Sink of octets in memory. Fails as it is told: `fail_at` octets in, with StorageError."""

    def __init__(self, octets: int, fail_at: int | None = None) -> None:
        self.data = bytearray()
        self.aborted = False
        self.finished = False
        self.announced = octets
        self._fail_at = fail_at
        self._room = bytearray(min(max(octets, 1), 1 << 18))

    def buffer(self, most: int) -> memoryview:
        return memoryview(self._room)[:most]

    def more(self, octets: int) -> RefuseReason | None:
        self.announced += octets
        return None

    def advance(self, count: int) -> None:
        self.data += self._room[:count]
        if self._fail_at is not None and len(self.data) >= self._fail_at:
            raise StorageError("disk full")

    def finish(self, transfer: int) -> Arrival:
        assert not self.aborted
        self.finished = True
        return Arrival(transfer, bytes(self.data))

    def abort(self) -> None:
        assert not self.finished, "a finished sink was aborted"
        self.aborted = True


class MemoryFile:
    """A counted handle on an anonymous file, as the stores give them."""

    def __init__(self, data: bytes) -> None:
        self.fd = os.memfd_create("tumpline-test", os.MFD_CLOEXEC)
        os.write(self.fd, data)
        self.readers = 1

    def retain(self) -> None:
        assert self.readers > 0
        self.readers += 1

    def release(self) -> None:
        assert self.readers > 0, "released more often than retained"
        self.readers -= 1
        if not self.readers:
            os.close(self.fd)

    def runs(self, offset: int, length: int) -> None:
        """It lies in a file."""

    def range(self, length: int) -> FileRange:
        """All of it, with a reader of its own."""
        self.retain()
        return FileRange(self, 0, length)


class RecordingHost:
    """LinkHost that keeps what it is told and checks what every link must hold:

    a unit ends once, a path goes down once, after the end of all its units, and nothing comes over it before or after.
    """

    def __init__(self) -> None:
        self.acknowledging = True  # answer each arrival at once
        self.refuse_sinks: RefuseReason | None = None
        self.fail_sinks_at: int | None = None
        self.acknowledge: Callable[[int, list[int]], None] = lambda _path, _transfers: None
        self.up: dict[int, PathInfo] = {}
        self.down: dict[int, str] = {}
        self.arrivals: list[tuple[int, Arrival]] = []
        self.sinks: list[MemorySink] = []
        self.ended: dict[int, str] = {}  # seq -> acked, lost, or the reason of a refusal
        self.end_order: list[int] = []
        self.waiting: dict[int, int] = {}  # seq -> path
        self.progressed: list[tuple[int, int]] = []
        self.notices: list[tuple[str, dict[str, Any]]] = []
        self._paths = 0
        self._changed = asyncio.Event()

    # ---- for tests ---------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait until the condition holds; looked at after each call of the link."""
        try:
            async with asyncio.timeout(HANG_S):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what or 'it'} did not come true; {self}") from None

    def __str__(self) -> str:
        return (
            f"up {list(self.up)}, down {self.down}, {len(self.arrivals)} arrivals, {len(self.ended)} ended, "
            f"{len(self.waiting)} waiting, notices {self.notices[-4:]}"
        )

    @property
    def data(self) -> list[bytes]:
        """The bundles that came, in order."""
        return [arrival.data for _, arrival in self.arrivals]

    @property
    def live(self) -> list[int]:
        """Paths that are up."""
        return [path for path in self.up if path not in self.down]

    def expect(self, path: int, seqs: Sequence[int]) -> None:
        """These are going to be offered."""
        for seq in seqs:
            assert seq not in self.waiting
            self.waiting[seq] = path

    def notice_text(self) -> str:
        """All that people were told."""
        return "\n".join(f"{name} {fields}" for name, fields in self.notices)

    # ---- LinkHost ----------------------------------------------------------------------------------------------------

    def new_path(self) -> int:
        self._paths += 1
        return self._paths

    def path_up(self, info: PathInfo) -> None:
        assert info.path not in self.down
        self.up[info.path] = info
        self._changed.set()

    def path_down(self, path: int, reason: str) -> None:
        assert path in self.up
        assert path not in self.down, "down twice"
        left = [seq for seq, at in self.waiting.items() if at == path]
        assert not left, f"units {left[:5]} had no end before path_down"
        self.down[path] = reason
        self._changed.set()

    def reserve(self, path: int, octets: int) -> MemorySink | RefuseReason:
        assert path in self.live
        if self.refuse_sinks is not None:
            return self.refuse_sinks
        sink = MemorySink(octets, self.fail_sinks_at)
        self.sinks.append(sink)
        return sink

    def received(self, path: int, arrivals: Sequence[Arrival]) -> None:
        assert path in self.live
        assert arrivals
        self.arrivals += [(path, arrival) for arrival in arrivals]
        if self.acknowledging:
            self.acknowledge(path, [arrival.transfer for arrival in arrivals])
        self._changed.set()

    def acked(self, path: int, seqs: Sequence[int]) -> None:
        self._end(path, seqs, "acked")

    def refused(self, path: int, seq: int, reason: RefuseReason) -> None:
        self._end(path, [seq], reason.value)

    def lost(self, path: int, seqs: Sequence[int]) -> None:
        self._end(path, seqs, "lost")

    def _end(self, path: int, seqs: Sequence[int], how: str) -> None:
        assert seqs
        for seq in seqs:
            assert self.waiting.pop(seq, None) == path, f"unit {seq} ended ({how}), but it was {self.ended.get(seq)}"
            self.ended[seq] = how
            self.end_order.append(seq)
        self._changed.set()

    def progress(self, path: int, seq: int, octets: int) -> None:
        assert self.waiting.get(seq) == path
        self.progressed.append((seq, octets))
        self._changed.set()

    def notice(self, name: str, **fields: Any) -> None:
        self.notices.append((name, fields))
        self._changed.set()
