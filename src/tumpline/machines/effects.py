"""What the node's machine asks the runtime to do, and the facts that come back.

`NodeMachine` (tumpline.machines.node) decides; the runtime (tumpline.node.runtime, or tumpline.testing.World) performs.
Effects are batches: one turn of the loop yields at most a few of them however many bundles it handled.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from tumpline.machines.contract import Payload
from tumpline.machines.storage import Operation
from tumpline.wire.eid import Eid


class RefuseReason(Enum):
    """Why a transfer is refused, in the link's neutral words (TCPCLv4 maps them to RFC 9174 §5.2.4 codes)."""

    NO_RESOURCES = "no resources"  # try again later
    COMPLETED = "completed"  # we have it already
    RETRANSMIT = "retransmit"
    NOT_ACCEPTABLE = "not acceptable"  # never send it again


# ---- facts that links give -------------------------------------------------------------------------------------------


class PathInfo(NamedTuple):
    """A way to hand bundles to a neighbour: one established session (or a datagram address)."""

    path: int  # number given by the runtime, never reused in one run
    link: str  # name of the link, as configured
    peer: Eid | None  # node ID that the peer claims; None while unknown
    address: str
    authenticated: bool  # the claim was proved, or the link's configuration does not ask for proof
    mru_octets: int  # largest bundle the peer takes
    segment_octets: int = 0  # for display
    security: str = "none"  # for display: "TLSv1.3", ...
    outbound: bool = True
    kinds: frozenset[str] = frozenset({"bundle"})


class Arrival(NamedTuple):
    """A bundle that came whole over a path. Either `payload` is None and `data` is the whole encoded bundle, or `data` is
    the head, `payload` its payload range in a file and `tail` the octets behind it (CRC over the payload: `payload_crc`,
    computed as the octets came, of the type that the head names)."""

    transfer: int  # the link's number, unique on the path
    data: bytes
    payload: Payload | None = None
    tail: bytes = b""
    payload_crc: int = 0


# ---- effects ---------------------------------------------------------------------------------------------------------


class Transact(NamedTuple):
    """Carry out the operations in one durable transaction, then call `NodeMachine.store_done(token, results, now)`, or
    `store_failed(token, error text, now)` when nothing of it was kept."""

    token: int
    operations: list[Operation]


class Acknowledge(NamedTuple):
    """Tell the link that these transfers are stored: the END segment may be acknowledged."""

    path: int
    transfers: list[int]


class Refuse(NamedTuple):
    """Tell the link to refuse a transfer that came whole."""

    path: int
    transfer: int
    reason: RefuseReason


class Unit(NamedTuple):
    """An encoded bundle on its way out; `seq` is the token for acked/refused/lost. The payload handle is retained for it."""

    seq: int
    head: bytes
    payload: Payload
    tail: bytes

    @property
    def length(self) -> int:
        return len(self.head) + self.payload.length + len(self.tail)


class Forward(NamedTuple):
    """Offer the units to the path, in order. Each ends in exactly one of forward_acked, forward_refused, forward_lost."""

    path: int
    units: list[Unit]


class Delivery(NamedTuple):
    """An ADU for a service. It ends in `delivered` (with what to commit) or `delivery_failed`."""

    seq: int
    source: Eid
    destination: Eid
    created_ms: int
    sequence: int
    lifetime_ms: int
    admin: bool
    payload: Payload


class Deliver(NamedTuple):
    """Hand ADUs to a service, in order."""

    service: str
    deliveries: list[Delivery]


class Committed(NamedTuple):
    """Answers of a service (to deliveries of these numbers) are kept: none of these is handed over again. Told to services
    that were registered with `confirms`."""

    service: str
    seqs: list[int]


class AdminRecord(NamedTuple):
    """An administrative record that came for this node, whose bundle is committed as delivered."""

    source: Eid
    destination: Eid  # which of this node's IDs
    created_ms: int
    sequence: int
    expires_ms: int  # DTN time by this node's clock, whatever that of the source
    wants_ack: bool  # RFC 9171 §4.2.3: an acknowledgment by the application is asked for
    record: Any  # what tumpline.wire.admin made of it


class Administer(NamedTuple):
    """Hand an administrative record to the service that is registered for records of its kind. It comes once."""

    service: str
    record: AdminRecord


class Adu(NamedTuple):
    """What an application asks to be sent (RFC 9171 §5.2). `source_demux` is below the node ID ("" = the node itself)."""

    destination: Eid
    payload: Payload
    source_demux: str = ""
    lifetime_ms: int = 86_400_000
    report_to: Eid | None = None
    report_flags: int = 0  # tumpline.wire.bundle7.BundleFlags.REPORT_*
    must_not_fragment: bool = False
    crc_type: int = 2
    hop_limit: int | None = None  # None: the node's; 0: none
    admin: bool = False
    token: int = 0  # given back in AduStored / AduRefused
    wants_ack: bool = False  # RFC 9171 §4.2.3: an acknowledgment by the application is asked for
    source_node: Eid | None = None  # which of the node's IDs is the source; None: the primary one


class Outcome(NamedTuple):
    """What a service wants committed together with the identity of the bundle it was given."""

    state: list[tuple[str, bytes | None]] = []
    adus: list[Adu] = []


class Connect(NamedTuple):
    """Keep trying to hold a session with this neighbour over this link (until Disconnect)."""

    link: str
    address: str
    peer: Eid | None


class Disconnect(NamedTuple):
    """Stop trying `address` (if given) and end the path (if given) gracefully."""

    link: str
    address: str | None
    path: int | None
    reason: str


class Split(NamedTuple):
    """Cut a bundle at these payload offsets into fragments: read the payload ranges, compute the CRCs, and call
    `NodeMachine.split_done(seq, payload CRCs, now)`, one CRC for each piece (of CRC type `crc_type`, over `prefix` of
    that piece, the payload range and zeros as RFC 9171 §4.2.2 has it)."""

    seq: int
    payload: Payload
    pieces: list[tuple[int, int, bytes]]  # offset, length, prefix octets of the payload block that come before the data
    crc_type: int


class Join(NamedTuple):
    """Make one payload of these ranges (in order, each a payload with offset and length to take) and call
    `NodeMachine.join_done(token, payload, now)`."""

    token: int
    ranges: list[tuple[Payload, int, int]]


class Notice(NamedTuple):
    """Something worth telling: control's event stream, log and metrics. `name` is in snake_case and the past tense."""

    name: str
    fields: dict[str, Any]


class AduStored(NamedTuple):
    """The ADU that was given with this token is a stored bundle now; `bundle` is its identity as people read it."""

    token: int
    bundle: str


class AduRefusal(Enum):
    """What an application can do about an ADU that was not accepted."""

    IMPOSSIBLE = "impossible"  # nothing, as it was asked
    NO_ROOM = "no room"  # the quota is reached: try again when `NodeMachine.fits` says so
    NOT_STORED = "not stored"  # the store failed (full disk): try again later


class AduRefused(NamedTuple):
    """The ADU that was given with this token was not accepted; its payload is given back (not released)."""

    token: int
    reason: str
    kind: AduRefusal = AduRefusal.IMPOSSIBLE


Effect = (
    Transact
    | Acknowledge
    | Refuse
    | Forward
    | Deliver
    | Administer
    | Committed
    | Connect
    | Disconnect
    | Split
    | Join
    | Notice
    | AduStored
    | AduRefused
)
