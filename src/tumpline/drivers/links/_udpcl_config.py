"""Configuration of the udpcl link, and what follows from it for conversations."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tumpline.drivers.links._tls_config import TlsConfig, tls_problems
from tumpline.drivers.links._udpcl_socket import Buffers
from tumpline.errors import ConfigError
from tumpline.machines.quantities import parse_rate
from tumpline.machines.udpcl.congestion import Pace
from tumpline.machines.udpcl.conversation import ConversationConfig, DtlsUse
from tumpline.machines.udpcl.feedback import Spacing
from tumpline.machines.udpcl.reassembly import Limits
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import DATAGRAM_OCTETS_MOST

KEEPALIVE_S_LEAST = 15.0  # RFC 7122 §3.4: MUST NOT be shorter

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
DatagramOctets = Annotated[int, msgspec.Meta(ge=64, le=DATAGRAM_OCTETS_MOST)]


class MulticastConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Groups of a udpcl link."""

    groups: list[str] = msgspec.field(default_factory=list)
    """Groups to take datagrams of, with the interface behind a percent sign: "224.0.1.20%eth0", "ff05::114%eth0"."""
    ttl: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    """How many routers what we send to groups may pass; default: the system's, 1."""


class UdpclLimits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Bounds of a udpcl link against hostile or broken peers."""

    conversations: Count = 4096
    """Peers' addresses remembered at once; of more, the stranger that was silent longest is forgotten."""
    max_handshakes: Count = 128
    """Conversations whose DTLS handshake goes on."""
    forget_s: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """Seconds without a datagram after which a stranger is forgotten."""
    reassembly_octets: Count = 64 << 20
    """Memory for segments of incomplete bundles, of all peers ..."""
    peer_reassembly_octets: Count = 16 << 20
    """... and of one."""
    reassembly_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 60.0
    """Seconds to wait for the next segment of a bundle."""
    max_unanswered: Count = 32_768
    """Received bundles that wait for the store; at the bound nothing more is read."""
    max_unanswered_octets: Count = 32 << 20
    """The same in octets."""


class UdpclConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """UDP convergence layer (draft-ietf-dtn-udpcl version 2, and RFC 7122). A datagram that was sent is a bundle that was
    forwarded: nothing tells of its loss."""

    listen: str | list[str] = msgspec.field(default_factory=list)
    """Addresses to listen on, such as "[::]:4556" (every address of this machine). Port 0: any free one."""
    connect: str | list[str] = msgspec.field(default_factory=list)
    """Addresses to keep a conversation with. Where bundles for a node are to go there, write [[peers]] instead: what an
    address says of itself makes no route."""
    version: Literal[1, 2] = 2
    """1: send bare bundles only until the peer has shown that it understands version 2 (RFC 7122)."""
    trust_node_ids: bool = False
    """Take senders' node IDs at their word, so that they make routes. For networks where nobody lies."""
    datagram_octets: DatagramOctets = 1200
    """Longest datagram (UDP payload) to send until a longer size was found to pass."""
    datagram_octets_most: DatagramOctets = DATAGRAM_OCTETS_MOST
    """Longest datagram to look for on the path."""
    discover_path_mtu: bool = True
    """Find out how long datagrams to each peer may be (RFC 8899), and use that."""
    rate: str = ""
    """Send to each peer at this rate, such as "100 Mbit/s"; default: as fast as what peers tell of congestion allows."""
    ecn: bool = True
    """Mark datagrams that carry bundles as ECN-capable: routers then tell of congestion before they drop."""
    ecn_feedback: bool = True
    """Tell senders which marks came ..."""
    ecn_feedback_min_ms: Count = 20
    """... no sooner than so many milliseconds after the last time ..."""
    ecn_feedback_max_ms: Count = 1000
    """... and once more after so many."""
    listen_s: Seconds = 30.0
    """How often peers are told that we take their datagrams (Sender Listen); 0 = never."""
    keepalive_s: Seconds = 15.0
    """Send four zero octets after so long without anything else, which keeps NATs open; 0 = never, else 15 or more."""
    bundle_octets: Count = 8 << 20
    """Longest bundle to send over this link: longer ones are fragmented before."""
    receive_buffer: Count = 8 << 20
    """Octets of received datagrams that the system is asked to hold; the more, the longer a pause may be without loss."""
    send_buffer: Count = 4 << 20
    """Octets of datagrams to be sent that the system is asked to hold."""
    tls: TlsConfig = msgspec.field(default_factory=TlsConfig)
    """DTLS. `optional`: speak it first, and plainly to who does not answer."""
    multicast: MulticastConfig = msgspec.field(default_factory=MulticastConfig)
    """Multicast groups."""
    limits: UdpclLimits = msgspec.field(default_factory=UdpclLimits)
    """Bounds."""

    def __post_init__(self) -> None:
        problems = tls_problems(self.tls)
        if 0 < self.keepalive_s < KEEPALIVE_S_LEAST:
            problems.append(f"keepalive_s: {self.keepalive_s:g} is too often; write 15 or more, or 0 for never")
        if self.datagram_octets > self.datagram_octets_most:
            problems.append("datagram_octets: longer than datagram_octets_most; write a smaller one")
        if self.ecn_feedback_min_ms > self.ecn_feedback_max_ms:
            problems.append("ecn_feedback_min_ms: more than ecn_feedback_max_ms; write a smaller one")
        try:
            self.octets_s()
        except ConfigError as error:
            problems.append(f"rate: {error}")
        if problems:
            raise ValueError("; ".join(problems))  # msgspec adds where it stands

    def octets_s(self) -> float | None:
        """The configured rate, if there is one. Raises: ConfigError."""
        return parse_rate(self.rate) / 8 if self.rate else None

    def buffers(self) -> Buffers:
        """What the kernel is asked for."""
        return Buffers(self.receive_buffer, self.send_buffer)

    def reassembly(self) -> Limits:
        """Bounds of incomplete bundles."""
        limits = self.limits
        return Limits(limits.reassembly_octets, limits.peer_reassembly_octets, timeout_s=limits.reassembly_s)


def conversation_config(config: UdpclConfig, node_id: Eid | None) -> ConversationConfig:
    """What each conversation is told."""
    return ConversationConfig(
        node_id=node_id,
        version=config.version,
        datagram_octets=config.datagram_octets,
        datagram_octets_most=config.datagram_octets_most,
        discovers_path_mtu=config.discover_path_mtu,
        listen_s=config.listen_s,
        keepalive_s=config.keepalive_s,
        pace=Pace(fixed_octets_s=config.octets_s()),
        marks_ecn=config.ecn,
        tells_ecn=config.ecn_feedback,
        feedback=Spacing(config.ecn_feedback_min_ms / 1000, config.ecn_feedback_max_ms / 1000),
        dtls=DtlsUse(config.tls.effective_mode),
    )
