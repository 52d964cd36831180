"""What a TCPCLv4 session is told before it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tumpline.errors import LocalProtocolError
from tumpline.machines.authenticate import AuthenticationPolicy, node_id_or_none
from tumpline.wire.tcpcl4 import ExtensionItem


class Role(Enum):
    """Who opened the TCP connection (RFC 9174 §2.1)."""

    ACTIVE = "active"
    PASSIVE = "passive"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """One session's preferences and bounds. Octets, seconds."""

    node_id: str = ""  # "" keeps it from the peer (RFC 9174 §4.6)
    keepalive_s: int = 60  # RFC 9174 §5.1.1: between 30 and 600 on shared networks; 0 disables
    keepalive_s_least: int = 1  # a shorter (non-zero) negotiated interval ends the session (§4.7, §7.10)
    segment_mru: int = 16 << 20
    transfer_mru: int = 1 << 40
    segment_mru_least: int = 1  # of the peer (§4.7, §7.10)
    transfer_mru_least: int = 0  # of the peer; 0 suits a node that only sends
    # For peers that keep not all of RFC 9174 (docs/interop.md).
    lenient_acks: bool = False  # take an XFER_ACK whose flags are not those of its segment (§5.2.3)
    single_segment: bool = False  # never send a transfer in several segments: the peer's Segment MRU bounds it too
    segments_most: int = 1_000_000  # a transfer that would need more is refused here ("data dribble", §7.10)

    can_tls: bool = False
    require_tls: bool | None = None  # True: only with TLS; False: only without; None: as the peer likes
    authentication: AuthenticationPolicy = field(default_factory=AuthenticationPolicy)
    expected_node_id: str | None = None  # another one ends the session (§4.6 lets us choose)
    expected_host: str | None = None  # the DNS name that was resolved to reach the peer (§4.4.4.2)
    peer_address: str | None = None  # the IP address of the other side of the connection (§4.4.4.2)

    contact_timeout_s: float = 30.0  # §4.1: SHOULD be no longer than 60 s
    tls_timeout_s: float = 30.0
    init_timeout_s: float = 30.0
    ending_timeout_s: float = 10.0  # once SESS_TERM was sent, without any progress of what is under way
    idle_s: float = 0.0  # end a session without transfers after this time (§6.2); 0 = never

    # The size of segments we send follows the time until they are acknowledged (§3.6, "Dynamic Segmentation").
    segment_octets_first: int = 1 << 20
    segment_octets_least: int = 16 << 10
    segment_octets_most: int = 8 << 20
    segment_ack_s: float = 0.5

    # Received transfers that wait for `acknowledge` or `refuse`: at the bound nothing is read until some are answered
    # (what one `receive` was given may pass it).
    unsettled_most: int = 32_768
    unsettled_octets_most: int = 32 << 20
    # Acknowledgements and the like that the peer does not read: some hundred thousand of them end the session.
    control_octets_most: int = 8 << 20
    # Messages that move no transfer: KEEPALIVE, SESS_INIT and SESS_TERM again, MSG_REJECT, what is answered with MSG_REJECT,
    # segments without octets. So many a second; a session is born with few, so that a new one after the next gains
    # nothing, and saves up more than KEEPALIVEs a second can pile up in an hour in which we did not read.
    idle_messages_per_s: float = 100.0
    idle_messages_first: int = 64
    idle_messages_most: int = 4096
    first_transfer_id: int = 0  # §5.2.1
    # To try peers: with SESS_INIT, and with each transfer (§4.8, §5.2.5).
    session_extensions: tuple[ExtensionItem, ...] = ()
    transfer_extensions: tuple[ExtensionItem, ...] = ()

    def __post_init__(self) -> None:
        """Raises: LocalProtocolError (the values do not fit a SESS_INIT)."""
        if self.node_id and node_id_or_none(self.node_id) is None:
            raise LocalProtocolError(f"{self.node_id!r} is no node ID")
        if not 0 <= self.keepalive_s <= 0xFFFF:
            raise LocalProtocolError(f"a keepalive interval of {self.keepalive_s} s does not fit 16 bits")
        if not (0 < self.segment_mru < 1 << 64 and 0 <= self.transfer_mru < 1 << 64):
            raise LocalProtocolError(f"MRUs of {self.segment_mru} and {self.transfer_mru} octets do not fit 64 bits")
        if self.require_tls and not self.can_tls:
            raise LocalProtocolError("TLS cannot be required without can_tls")

    @property
    def offers_tls(self) -> bool:
        """Whether our contact header carries CAN_TLS."""
        return self.can_tls and self.require_tls is not False
