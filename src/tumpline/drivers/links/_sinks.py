"""The bodies of large bundles on their way into sinks of the host, from the first octets to the last or to the refusal."""

from __future__ import annotations

from collections.abc import Callable

from tumpline.drivers.links._api import LinkHost, Sink
from tumpline.drivers.links._units import put
from tumpline.errors import MalformedError, StorageError, TumplineError
from tumpline.machines.effects import RefuseReason


class Sinks:
    """The transfers of one session that have room. `refuse(transfer, reason)` tells the peer of those that have none.

    Of a transfer that was refused, or never had room, more may come: it has no sink any more, and nothing is done.
    """

    def __init__(self, host: LinkHost, address: str, refuse: Callable[[int, RefuseReason], None]) -> None:
        self._host = host
        self._address = address
        self._refuse = refuse
        self._sinks: dict[int, Sink] = {}

    def begin(self, path: int, transfer: int, octets: int) -> bool:
        """Reserve room. False: there is none, and the peer is told."""
        sink = self._host.reserve(path, octets)
        if isinstance(sink, RefuseReason):
            self._refuse(transfer, sink)
            return False
        self._sinks[transfer] = sink
        return True

    def more(self, transfer: int, octets: int) -> None:
        """Another segment begins: it needs room too if the length was not announced."""
        sink = self._sinks.get(transfer)
        reason = sink.more(octets) if sink is not None else None
        if reason is not None:
            self._refuse(transfer, reason)

    def put(self, path: int, transfer: int, octets: bytes | memoryview) -> None:
        """These are the next octets."""
        sink = self._sinks.get(transfer)
        if sink is None:
            return
        try:
            put(sink, octets)
        except (StorageError, MalformedError) as error:
            self._fail(path, transfer, error)

    def room(self, transfer: int, most: int) -> memoryview:
        """Where up to `most` of the next octets go, for who can have them written there; then `advance`."""
        return self._sinks[transfer].buffer(most)[:most]

    def advance(self, path: int, transfer: int, count: int) -> None:
        """So many octets were written there."""
        try:
            self._sinks[transfer].advance(count)
        except (StorageError, MalformedError) as error:
            self._fail(path, transfer, error)

    def finish(self, path: int, transfer: int) -> None:
        """All octets have come: the host has the bundle."""
        sink = self._sinks.get(transfer)
        if sink is None:
            return
        try:
            arrival = sink.finish(transfer)
        except (StorageError, MalformedError) as error:
            self._fail(path, transfer, error)
            return
        del self._sinks[transfer]
        self._host.received(path, [arrival])

    def abort(self, transfer: int) -> None:
        """The rest will not come: the room is given back."""
        sink = self._sinks.pop(transfer, None)
        if sink is not None:
            sink.abort()

    def _fail(self, path: int, transfer: int, error: TumplineError) -> None:
        """What comes cannot be kept: no room (try again), or it is no bundle (never again)."""
        self.abort(transfer)
        self._refuse(transfer, why_refused(error))
        self._host.notice("transfer_refused", path=path, address=self._address, reason=str(error))


def why_refused(error: TumplineError) -> RefuseReason:
    """What the peer is told when a sink failed."""
    return RefuseReason.NOT_ACCEPTABLE if isinstance(error, MalformedError) else RefuseReason.NO_RESOURCES
