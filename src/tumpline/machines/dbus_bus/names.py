"""Well-known names: who owns one, who waits for it (D-Bus specification, org.freedesktop.DBus.RequestName)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple


class RequestFlags(IntFlag):
    """Of RequestName."""

    ALLOW_REPLACEMENT = 1
    REPLACE_EXISTING = 2
    DO_NOT_QUEUE = 4


class RequestResult(IntEnum):
    """Of RequestName."""

    PRIMARY_OWNER = 1
    IN_QUEUE = 2
    EXISTS = 3
    ALREADY_OWNER = 4


class ReleaseResult(IntEnum):
    """Of ReleaseName."""

    RELEASED = 1
    NON_EXISTENT = 2
    NOT_OWNER = 3


class OwnerChanged(NamedTuple):
    """A name went from one client to another; None: nobody."""

    name: str
    old: int | None
    new: int | None


class _Claim(NamedTuple):
    client: int
    allows_replacement: bool
    does_not_queue: bool


class NameRegistry:
    """The queue of each name, its owner in front. Clients are numbers."""

    def __init__(self) -> None:
        self._queues: dict[str, list[_Claim]] = {}
        self._claimed: dict[int, dict[str, None]] = {}  # by client: names, in the order they were asked for

    def owner(self, name: str) -> int | None:
        """Who has it."""
        queue = self._queues.get(name)
        return queue[0].client if queue else None

    def queue(self, name: str) -> list[int]:
        """Its owner, and who waits."""
        return [claim.client for claim in self._queues.get(name, ())]

    def names(self) -> list[str]:
        """All that are owned."""
        return list(self._queues)

    def owned_by(self, client: int) -> list[str]:
        """The names that a client has; not those it waits for."""
        return [name for name in self._claimed.get(client, ()) if self.owner(name) == client]

    def claims(self, client: int) -> int:
        """How many names a client has or waits for."""
        return len(self._claimed.get(client, ()))

    def request(self, name: str, client: int, flags: int) -> tuple[RequestResult, OwnerChanged | None]:
        """Ask for a name."""
        queue = self._queues.setdefault(name, [])
        claim = _Claim(client, bool(flags & RequestFlags.ALLOW_REPLACEMENT), bool(flags & RequestFlags.DO_NOT_QUEUE))
        if not queue:
            queue.append(claim)
            self._note(client, name)
            return RequestResult.PRIMARY_OWNER, OwnerChanged(name, None, client)
        if queue[0].client == client:
            queue[0] = claim  # "the flags are updated"
            return RequestResult.ALREADY_OWNER, None
        if flags & RequestFlags.REPLACE_EXISTING and queue[0].allows_replacement:
            return RequestResult.PRIMARY_OWNER, self._replace(name, queue, claim)
        return self._wait(name, queue, claim), None

    def _replace(self, name: str, queue: list[_Claim], claim: _Claim) -> OwnerChanged:
        old = queue[0]
        self._note(claim.client, name)
        queue[:] = [claim, *(each for each in queue if each.client != claim.client)]
        if old.does_not_queue:  # "removed from the queue", otherwise it waits at its head
            queue.remove(old)
            self._forget(old.client, name)
        return OwnerChanged(name, old.client, claim.client)

    def _wait(self, name: str, queue: list[_Claim], claim: _Claim) -> RequestResult:
        at = next((at for at, each in enumerate(queue) if each.client == claim.client), len(queue))
        if claim.does_not_queue:
            del queue[at : at + 1]
            self._forget(claim.client, name)
            return RequestResult.EXISTS
        queue[at : at + 1] = [claim]
        self._note(claim.client, name)
        return RequestResult.IN_QUEUE

    def release(self, name: str, client: int) -> tuple[ReleaseResult, OwnerChanged | None]:
        """Give a name up, or the place in its queue."""
        queue = self._queues.get(name)
        if queue is None:
            return ReleaseResult.NON_EXISTENT, None
        if client not in self.queue(name):
            return ReleaseResult.NOT_OWNER, None
        was_owner = queue[0].client == client
        queue[:] = [claim for claim in queue if claim.client != client]
        self._forget(client, name)
        if not queue:
            del self._queues[name]
        return ReleaseResult.RELEASED, OwnerChanged(name, client, self.owner(name)) if was_owner else None

    def release_all(self, client: int) -> list[OwnerChanged]:
        """A client has left."""
        released = [self.release(name, client)[1] for name in list(self._claimed.get(client, ()))]
        return [changed for changed in released if changed is not None]

    def _note(self, client: int, name: str) -> None:
        self._claimed.setdefault(client, {})[name] = None

    def _forget(self, client: int, name: str) -> None:
        names = self._claimed.get(client, {})
        names.pop(name, None)
        if not names:
            self._claimed.pop(client, None)
