"""Both ends of a link without a bundle agent: they know nothing of bundles, and keep every octet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from tumpline.drivers.links._api import BundleLink
from tumpline.machines.effects import Arrival, PathInfo, RefuseReason
from tumpline.ui.bundlegen.ledger import NAMED_MOST, Ledger

RECEIVED_OCTETS_MOST: Final = 1 << 30  # of one bundle, held in memory: whoever finds the port may send, too
_ROOM_OCTETS: Final = 1 << 18
_FAILURES: Final = ("connection_failed", "session_failed", "task_failed")

logger = logging.getLogger("tumpline.bundlegen")


class End:
    """LinkHost of one end: whether there is a path, and what went wrong."""

    def __init__(self, name: str, changed: Callable[[], None]) -> None:
        self.info: PathInfo | None = None
        self.down: str | None = None  # why the path went down
        self.trouble = ""  # what the link last complained of
        self._name = name
        self._changed = changed
        self._paths = 0

    def new_path(self) -> int:
        self._paths += 1
        return self._paths

    def path_up(self, info: PathInfo) -> None:
        logger.info("%s: joined with %s (security: %s)", self._name, info.address, info.security)
        self.info = info
        self._changed()

    def path_down(self, path: int, reason: str) -> None:
        if self.info is not None and path == self.info.path:
            self.down = reason
        self._changed()

    def notice(self, name: str, **fields: Any) -> None:
        logger.info("%s: %s %s", self._name, name, fields)
        if name in _FAILURES:
            self.trouble = str(fields.get("reason", name))
            self._changed()

    def reserve(self, _path: int, _octets: int) -> Room | RefuseReason:
        return RefuseReason.NOT_ACCEPTABLE

    def received(self, path: int, arrivals: Sequence[Arrival]) -> None:
        """Nothing is sent in this direction."""

    def acked(self, path: int, seqs: Sequence[int]) -> None:
        """This end sends nothing."""

    def refused(self, path: int, seq: int, reason: RefuseReason) -> None:
        """This end sends nothing."""

    def lost(self, path: int, seqs: Sequence[int]) -> None:
        """This end sends nothing."""

    def progress(self, path: int, seq: int, octets: int) -> None:
        """Nobody watches single bundles."""


class Sender(End):
    """The active end: counts what became of what it was given."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__("active", changed)
        self.acked_count = 0
        self.lost_count = 0
        self.refused_count = 0
        self.refusals: list[tuple[int, str]] = []  # the first of them: number, reason

    @property
    def ended(self) -> int:
        """Bundles of which no more will be heard."""
        return self.acked_count + self.refused_count + self.lost_count

    def acked(self, _path: int, seqs: Sequence[int]) -> None:
        self.acked_count += len(seqs)
        self._changed()

    def progress(self, _path: int, _seq: int, _octets: int) -> None:
        """Of a long one: it is no silence."""
        self._changed()

    def refused(self, _path: int, seq: int, reason: RefuseReason) -> None:
        self.refused_count += 1
        if len(self.refusals) < NAMED_MOST:
            self.refusals.append((seq, reason.value))
        self._changed()

    def lost(self, _path: int, seqs: Sequence[int]) -> None:
        self.lost_count += len(seqs)
        self._changed()


class Receiver(End):
    """The passive end: what comes goes into the ledger."""

    link: BundleLink

    def __init__(self, ledger: Ledger, changed: Callable[[], None]) -> None:
        super().__init__("passive", changed)
        self._ledger = ledger

    def reserve(self, _path: int, octets: int) -> Room | RefuseReason:
        return Room() if octets <= RECEIVED_OCTETS_MOST else RefuseReason.NO_RESOURCES

    def received(self, path: int, arrivals: Sequence[Arrival]) -> None:
        receive = self._ledger.receive
        for arrival in arrivals:
            receive(arrival.data)
        self.link.acknowledge(path, [arrival.transfer for arrival in arrivals])
        self._changed()


class Room:
    """Sink of one large bundle, in memory."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._room = bytearray(_ROOM_OCTETS)

    def buffer(self, most: int) -> memoryview:
        return memoryview(self._room)[:most]

    def more(self, octets: int) -> RefuseReason | None:
        return None if len(self._data) + octets <= RECEIVED_OCTETS_MOST else RefuseReason.NO_RESOURCES

    def advance(self, count: int) -> None:
        self._data += self._room[:count]

    def finish(self, transfer: int) -> Arrival:
        return Arrival(transfer, bytes(self._data))

    def abort(self) -> None:
        self._data.clear()
