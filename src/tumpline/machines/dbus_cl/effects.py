"""What the machine asks its driver to do, and the small values that both know."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, NamedTuple

from tumpline.machines.effects import PathInfo, RefuseReason

# What a bus carries in one array is 64 MiB; but who sends much at once makes everybody on the bus wait for it.
DATA_OCTETS_MOST: Final = 16 << 20
ARRAY_OCTETS_MOST: Final = (64 << 20) - (64 << 10)  # D-Bus specification, Marshaling; without the rest of the message
CALL_S: Final = 25.0  # what D-Bus libraries wait for a reply unless told otherwise
CONNECT_S: Final = 90.0  # the older agent does nothing else while it connects
_UNKNOWN: Final = ("UnknownMethod", "UnknownInterface")
# Those of ours for what will never do (the last one: its octets are not there any more), and everybody's.
_NEVER: Final = ("InvalidArgs", "TransferError", "PayloadGoneError")
_GONE: Final = ("UnknownObject", "ServiceUnknown", "NameHasNoOwner", "Disconnected", "NoReply")


class Way(Enum):
    """How the octets of a bundle cross between node and agent."""

    DATA = "data"  # in the message
    FD = "fd"  # as a file descriptor; the older agent cannot
    FILE = "file"  # as the name of a file that both can open


class Failure(NamedTuple):
    """A call that ended in an error (or in no answer)."""

    name: str
    text: str

    @property
    def is_unknown_method(self) -> bool:
        """The agent has no such method (with these arguments)."""
        return self.name.endswith(_UNKNOWN)

    @property
    def is_final(self) -> bool:
        """The same will never do."""
        return self.name.endswith(_NEVER)

    @property
    def is_gone(self) -> bool:
        """Whom we asked is not there any more."""
        return self.name.endswith(_GONE)


class Call(NamedTuple):
    """Call a method; `replied(token, values)` or `failed(token, failure)` ends it."""

    token: int
    path: str
    interface: str
    member: str
    signature: str
    arguments: tuple[Any, ...]
    timeout_s: float


class Send(NamedTuple):
    """Hand over a unit that was offered; `replied` brings the agent's transfer ID."""

    token: int
    path: str
    interface: str
    way: Way
    over: int  # the node's path, which with `seq` names the unit
    seq: int
    parameters: dict[str, Any] | None  # of UDPCL: where to


class Take(NamedTuple):
    """Fetch a received bundle. If its length is known to be large, room is reserved first, and without room it is left where
    it is (`no_room`). `popped(token, octets)` when its octets are here, else `failed`."""

    token: int
    path: str
    interface: str
    way: Way
    id: str
    octets: int  # -1: not known
    over: int


class Present(NamedTuple):
    """Show a bundle that was taken to the node, as this transfer. Ends in `acknowledge`, `refuse`, `no_room`, `malformed`."""

    token: int
    over: int


class Discard(NamedTuple):
    """Its octets are not needed any more."""

    token: int


class PathRaised(NamedTuple):
    """Units may be offered (or the facts of the path have changed)."""

    info: PathInfo


class PathLowered(NamedTuple):
    """The path is over; every unit has ended before."""

    path: int
    reason: str


class UnitsAcked(NamedTuple):
    path: int
    seqs: list[int]


class UnitRefused(NamedTuple):
    path: int
    seq: int
    reason: RefuseReason


class UnitsLost(NamedTuple):
    path: int
    seqs: list[int]


class UnitProgressed(NamedTuple):
    path: int
    seq: int
    octets: int


class Noticed(NamedTuple):
    """Worth telling people."""

    name: str
    fields: dict[str, Any]


Effect = (
    Call
    | Send
    | Take
    | Present
    | Discard
    | PathRaised
    | PathLowered
    | UnitsAcked
    | UnitRefused
    | UnitsLost
    | UnitProgressed
    | Noticed
)
