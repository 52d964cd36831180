"""What the node is to its links: the facts they give become facts of the machine, and large bundles get room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tumpline.drivers.links._api import BundleLink, Sink
from tumpline.errors import StorageError
from tumpline.machines.effects import Arrival, Notice, PathInfo, RefuseReason
from tumpline.node.runtime import Runtime


class Host:
    """The LinkHost of one link."""

    def __init__(self, runtime: Runtime, link: BundleLink) -> None:
        self._runtime = runtime
        self._machine = runtime.machine
        self._link = link

    def new_path(self) -> int:
        return self._runtime.new_path(self._link)

    def path_up(self, info: PathInfo) -> None:
        self._machine.path_up(info, self._runtime.now())
        self._runtime.turn()

    def path_down(self, path: int, reason: str) -> None:
        self._runtime.forget_path(path)
        self._machine.path_down(path, reason, self._runtime.now())
        self._runtime.turn()

    def reserve(self, path: int, octets: int) -> Sink | RefuseReason:
        if (reason := self._machine.may_receive(octets)) is not None:
            return reason
        try:
            return ReservedSink(self._runtime, self._runtime.store.sink(octets), octets)
        except StorageError as error:
            self._machine.release(octets)
            self.notice("storage_failed", path=path, error=str(error))
            return RefuseReason.NO_RESOURCES

    def received(self, path: int, arrivals: Sequence[Arrival]) -> None:
        self._machine.received(path, arrivals, self._runtime.now())
        self._runtime.turn()

    def acked(self, path: int, seqs: Sequence[int]) -> None:
        self._machine.acked(path, seqs, self._runtime.now())
        self._runtime.turn()

    def refused(self, path: int, seq: int, reason: RefuseReason) -> None:
        self._machine.refused(path, seq, reason, self._runtime.now())
        self._runtime.turn()

    def lost(self, path: int, seqs: Sequence[int]) -> None:
        self._machine.lost(path, seqs, self._runtime.now())
        self._runtime.turn()

    def progress(self, path: int, seq: int, octets: int) -> None:
        self._runtime.perform(Notice("transfer_progressed", {"path": path, "seq": seq, "octets": octets}))

    def notice(self, name: str, **fields: Any) -> None:
        self._runtime.perform(Notice(name, {"link": self._link.name, **fields}))


class ReservedSink:
    """A store's sink whose octets are counted against the node's quota while they arrive."""

    def __init__(self, runtime: Runtime, sink: Sink, octets: int) -> None:
        self._runtime = runtime
        self._sink = sink
        self._reserved = octets

    def buffer(self, most: int) -> memoryview:
        return self._sink.buffer(most)

    def more(self, octets: int) -> RefuseReason | None:
        if (reason := self._runtime.machine.may_receive(octets)) is not None:
            return reason
        self._reserved += octets
        return self._sink.more(octets)

    def advance(self, count: int) -> None:
        self._sink.advance(count)

    def finish(self, transfer: int) -> Arrival:
        try:
            arrival = self._sink.finish(transfer)
        except BaseException:
            self._give_room_back()
            raise
        self._reserved = 0  # it ends when the machine is told of the arrival
        return arrival

    def abort(self) -> None:
        self._sink.abort()
        self._give_room_back()

    def _give_room_back(self) -> None:
        reserved, self._reserved = self._reserved, 0
        if reserved:
            self._runtime.machine.release(reserved)
            self._runtime.turn()
