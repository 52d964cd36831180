"""The seam of bundle links. One module here = one convergence layer; it ends with SPEC.

A link owns its sockets, timers and sessions and knows no routes: the node tells it whom to reach (`connect`) and what to
send (`offer`); it tells its host what came and what became of what it was given. All calls run on the event loop's
thread; none blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from tumpline.machines.effects import Arrival, PathInfo, RefuseReason, Unit
from tumpline.wire.eid import Eid


class Sink(Protocol):
    """Where the body of one large bundle goes while it arrives. Room was reserved for it."""

    def buffer(self, most: int) -> memoryview:
        """Room for up to `most` of the next octets (at least one); valid until `advance`."""

    def more(self, octets: int) -> RefuseReason | None:
        """A further segment of a bundle whose length was not announced begins: make room, or say why not."""

    def advance(self, count: int) -> None:
        """`count` octets were put into the last buffer.

        Raises: StorageError (disk full), MalformedError (the head is no bundle): refuse the transfer."""

    def finish(self, transfer: int) -> Arrival:
        """All octets are there. Raises: MalformedError."""

    def abort(self) -> None:
        """Give the room back; nothing is kept. Idempotent."""


class LinkHost(Protocol):
    """What the node is to a link."""

    def new_path(self) -> int:
        """A number for a path that is about to come up."""

    def path_up(self, info: PathInfo) -> None:
        """A session is established (or its facts have changed): units may be offered."""

    def path_down(self, path: int, reason: str) -> None:
        """The session has ended. Every unit that was offered has had its acked, refused or lost before this call."""

    def reserve(self, path: int, octets: int) -> Sink | RefuseReason:
        """A large bundle of this length begins. Small ones (below FILE_PAYLOAD_OCTETS) come whole, in `received`."""

    def received(self, path: int, arrivals: Sequence[Arrival]) -> None:
        """Bundles came whole. Each is answered later by `acknowledge` or `refuse`, in any order."""

    def acked(self, path: int, seqs: Sequence[int]) -> None:
        """The peer has taken these units."""

    def refused(self, path: int, seq: int, reason: RefuseReason) -> None:
        """The peer refused this unit."""

    def lost(self, path: int, seqs: Sequence[int]) -> None:
        """These units were not acknowledged when the session ended: whether they came is unknown."""

    def progress(self, path: int, seq: int, octets: int) -> None:
        """The peer has acknowledged this many octets of a large unit."""

    def notice(self, name: str, **fields: Any) -> None:
        """Something worth telling (log, event stream): connection_failed, session_failed, session_terminated ..."""


class BundleLink(Protocol):
    """A convergence layer in use. `name` is unique in the node."""

    name: str

    async def start(self, host: LinkHost) -> None:
        """Bind and listen; return once peers can reach us. Raises: TumplineError with the remedy (port in use ...)."""

    async def stop(self, *, graceful: bool = True, timeout_s: float = 5.0) -> None:
        """End all sessions (gracefully: transfers under way are finished first, within the time) and free everything."""

    def connect(self, address: str, peer: Eid | None = None) -> None:
        """Keep a session with this address: dial, and dial again with capped back-off, until `disconnect`. Idempotent."""

    def disconnect(self, address: str | None, path: int | None, reason: str) -> None:
        """Stop dialling `address`; end the path gracefully. Idempotent."""

    def offer(self, path: int, units: Sequence[Unit]) -> None:
        """Send the units in order. The link releases a FileRange's handle when the unit has ended."""

    def cancel(self, path: int, seq: int) -> None:
        """Do not send this unit any more, if that is still possible (it ends in `lost`)."""

    def acknowledge(self, path: int, transfers: Sequence[int]) -> None:
        """These received transfers are stored."""

    def refuse(self, path: int, transfer: int, reason: RefuseReason) -> None:
        """This received transfer will not be kept."""

    def describe(self) -> dict[str, Any]:
        """Snapshot for people: listening addresses, sessions, back-off ..."""


class LinkContext(NamedTuple):
    """What a link may know of its node when it is opened."""

    name: str
    node_id: Eid
    random: Callable[[], float]  # this link's own stream, [0, 1)


class LinkSpec(NamedTuple):
    """The last line of a link's module: `SPEC = LinkSpec(...)`."""

    scheme: str
    summary: str
    config: type[Any]  # a msgspec.Struct (kw_only, forbid_unknown_fields), every field documented
    open: Callable[[Any, LinkContext], BundleLink]  # heavy imports happen inside
    carries: frozenset[str] = frozenset({"bundle"})
    # False: datagrams, sent and forgotten. A unit is acked when it went, whatever becomes of it; the peer's host refuses and
    # acknowledges unheard; a path has no other end that would notice its end.
    acknowledges: bool = True
