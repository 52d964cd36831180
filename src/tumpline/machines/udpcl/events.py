"""What a conversation tells its owner, in the past tense."""

from __future__ import annotations

from typing import NamedTuple

from tumpline.wire.eid import Eid


class PeerNamed(NamedTuple):
    """The peer told its node ID for the first time, or another one than before. A hint: nothing has proved it, unless
    `is_secured` (it came inside of DTLS; whether the certificate names it too, the owner compares)."""

    node_id: Eid
    is_secured: bool


class SpokeVersion2(NamedTuple):
    """The peer has sent its first extension map: it understands them, so bundles of any length may be sent to it."""


class PeerListening(NamedTuple):
    """A Sender Listen came: datagrams to the peer's address are taken for three intervals from now on."""

    interval_ms: int
    node_id: Eid | None  # told in the same item, or before


class PeerSilent(NamedTuple):
    """Three intervals have passed since the last Sender Listen."""


class PathMtuFound(NamedTuple):
    """A search has ended. `datagram_octets` of UDP payload are used from now on."""

    datagram_octets: int
    is_confirmed: bool  # False: the peer confirmed nothing, the base size is used all the same


class PathMtuShrank(NamedTuple):
    """Datagrams of the size found before do not pass any more (a black hole, or the system said so)."""

    datagram_octets: int


class StartDtls(NamedTuple):
    """A handshake is to begin, with us as the client. The driver makes the secured channel; the end is told by `dtls_done`,
    `dtls_unanswered` or `dtls_failed`."""


class DtlsDone(NamedTuple):
    """The conversation is secured, and was not before; or (`is_renewed`) it goes on with other keys: the peer restarted."""

    is_renewed: bool


class DtlsUnanswered(NamedTuple):
    """Nobody answered the handshake, and plain text will do."""


class DtlsFailed(NamedTuple):
    """The handshake failed, or the secured conversation was ended: nothing is sent any more."""

    text: str


Event = (
    PeerNamed
    | SpokeVersion2
    | PeerListening
    | PeerSilent
    | PathMtuFound
    | PathMtuShrank
    | StartDtls
    | DtlsDone
    | DtlsUnanswered
    | DtlsFailed
)
