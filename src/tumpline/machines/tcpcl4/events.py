"""What a TCPCLv4 session wants next, what it gives to be sent, and what it tells its driver (past tense, in order)."""

from __future__ import annotations

from typing import NamedTuple

from tumpline.machines.event_queue import EventQueue
from tumpline.wire.tcpcl4 import RefusalCode, RejectionCode, TerminationCode

# ---- what `Session.wants()` answers ----------------------------------------------------------------------------------


class Read(NamedTuple):
    """Read at most this many further octets from the socket and hand them, behind what `receive` left, to `receive`."""

    most: int


class Body(NamedTuple):
    """The next `octets` octets of the stream (first those that `receive` left) belong into the sink of `transfer`, or
    nowhere (None: discard them). Report with `body_received`; any part will do."""

    transfer: int | None
    octets: int


# ---- what `Session.data_to_send()` gives -----------------------------------------------------------------------------


class BodyRange(NamedTuple):
    """Octets that the driver takes from the unit it knows as `token`.

    Once given they must be sent whole and in order, even if the unit ends (refused) meanwhile: keep its handle."""

    token: int
    offset: int
    length: int


# ---- events ----------------------------------------------------------------------------------------------------------


class ContactHeaderExchanged(NamedTuple):
    """Both contact headers agree on version 4; whether TLS comes next."""

    tls: bool


class TlsStart(NamedTuple):
    """Write all that `data_to_send` gives, then do the TLS handshake and call `tls_done` or `tls_failed`."""

    server_side: bool


class SessionEstablished(NamedTuple):
    """Transfers may begin. `node_id` is "" when the peer keeps it to itself."""

    node_id: str
    segment_mru: int  # the peer's: octets
    transfer_mru: int  # the peer's: octets; with `single_segment` no more than its Segment MRU
    keepalive_s: int  # negotiated, 0 = none
    authenticated: bool  # the certificate vouches for the node ID
    how: str  # a sentence for people


class TransfersReceived(NamedTuple):
    """Small transfers came whole. Each is answered by `acknowledge` or `refuse`."""

    transfers: list[tuple[int, bytes]]


class TransferStarted(NamedTuple):
    """A large transfer begins: answer with `accept` or `refuse`; nothing is read until then.

    `length` is what the sender announced, None if it did not. `octets` is what is known to come before the sender says
    more: all of it, or (length None) `prefix` and the first segment. `prefix` are the octets that came while the
    transfer was still small: they go into the sink first."""

    transfer: int
    length: int | None
    octets: int
    prefix: bytes


class SegmentStarted(NamedTuple):
    """A further segment of a large transfer without announced length: make room for `octets` more, or `refuse`."""

    transfer: int
    octets: int


class TransferReceived(NamedTuple):
    """A large transfer is complete in its sink. Answer with `acknowledge` or `refuse`."""

    transfer: int


class TransferAborted(NamedTuple):
    """A large transfer will not be completed: give its sink back. Only after `accept`, never after TransferReceived."""

    transfer: int
    text: str


class TransfersAcked(NamedTuple):
    """The peer has taken these."""

    tokens: list[int]


class TransferProgress(NamedTuple):
    """The peer has received this many octets of a transfer in several segments."""

    token: int
    octets: int


class TransferRefused(NamedTuple):
    """The peer refused it (or, `local`, it is larger than the peer takes and was not sent)."""

    token: int
    reason: RefusalCode
    local: bool = False


class TransfersLost(NamedTuple):
    """These were cancelled, or not acknowledged when the session ended: whether they came is unknown."""

    tokens: list[int]


class MessageRejected(NamedTuple):
    """The peer rejected a message of ours (`header` is its type octet). For troubleshooting."""

    reason: RejectionCode
    header: int


class SessionEnding(NamedTuple):
    """SESS_TERM was sent: transfers under way are finished, none begins. `send` answers with TransfersLost from now."""

    reason: TerminationCode
    by_peer: bool
    text: str


class SessionTerminated(NamedTuple):
    """The session is over; every token and every sink had its last event before. Comes once, before Close."""

    reason: TerminationCode
    by_peer: bool
    clean: bool  # SESS_TERM went both ways and no transfer was cut
    text: str


class Close(NamedTuple):
    """Write all that `data_to_send` still gives, then close the connection (FIN, not RST). Comes once, as the last."""


Event = (
    ContactHeaderExchanged
    | TlsStart
    | SessionEstablished
    | TransfersReceived
    | TransferStarted
    | SegmentStarted
    | TransferReceived
    | TransferAborted
    | TransfersAcked
    | TransferProgress
    | TransferRefused
    | TransfersLost
    | MessageRejected
    | SessionEnding
    | SessionTerminated
    | Close
)


class SessionEvents(EventQueue[Event]):
    """Small ones that arrived, and acknowledgements, in batches."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(TransfersReceived, TransfersAcked)
