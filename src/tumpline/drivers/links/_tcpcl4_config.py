"""Configuration of the tcpcl4 link, and what follows from it for a session."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from tumpline.drivers.dial import Address
from tumpline.drivers.links._tls_config import TlsConfig, asks_for_proof, tls_files, tls_problems
from tumpline.drivers.tls import TlsContexts
from tumpline.machines.authenticate import AuthenticationPolicy
from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.wire.tcpcl4 import CRITICAL, ExtensionItem

__all__ = [
    "DEFAULT_PORT",
    "LimitsConfig",
    "Tcpcl4Config",
    "TlsConfig",
    "asks_for_proof",
    "session_config",
    "tls_contexts",
]

DEFAULT_PORT = 4556  # RFC 9174 §8.1: dtn-bundle
_SESSION = SessionConfig()
PRIVATE_EXTENSION = 0x8000  # RFC 9174 Tables 12 and 13: from there on "Private or Experimental Use"

Seconds = Annotated[float, msgspec.Meta(ge=0)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Octets = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class LimitsConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Bounds of a tcpcl4 link against hostile or broken peers."""

    max_sessions: Count = 1024
    """Connections at once; more are closed as they come."""
    max_handshakes: Count = 128
    """Of these, connections whose session is not established yet."""
    max_per_ip: Count = 256
    """Connections at once from one address."""
    max_per_ip_burst: Count = 256
    """New connections from one address that may come at once ..."""
    max_per_ip_per_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """... and how many more each second; beyond, they are closed as they come."""
    handshake_s: PositiveSeconds = 20.0
    """Seconds for each step of establishing a session: contact header, TLS, SESS_INIT."""
    max_idle_messages_per_s: Annotated[float, msgspec.Meta(gt=0)] = 100.0
    """Messages a second that move no bundle (KEEPALIVE and the like); a session with more of them is ended."""
    max_unanswered: Count = 32_768
    """Received bundles that wait for the store; at the bound nothing more is read from that peer."""
    max_unanswered_octets: Octets = 32 << 20
    """The same in octets of bundles held in memory."""


class Tcpcl4Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """TCP convergence layer version 4 (RFC 9174)."""

    listen: str | list[str] = msgspec.field(default_factory=list)
    """Addresses to listen on, such as "[::]:4556" (every address of this machine). Port 0: any free one."""
    connect: str | list[str] = msgspec.field(default_factory=list)
    """Peers to hold a session with, such as "relay.example:4556"."""
    keepalive_s: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 60
    """Offered interval of KEEPALIVE messages; 0 = none. The smaller of both ends' offers is used."""
    idle_s: Seconds = 0.0
    """End a session that a peer opened and nobody used for so long; 0 = never. What we dial is kept."""
    segment_mru: Octets = 16 << 20
    """Largest segment to take, in octets."""
    segment_first_octets: Octets | None = None
    """Segments that a session sends begin with so many octets. Default: 1 MiB."""
    segment_ack_s: Seconds = 0.5
    """Their size follows the time until one is acknowledged, so that it comes near this; 0: it stays as it is."""
    transfer_mru: Octets = 1 << 40
    """Largest bundle to take, in octets."""
    lenient_acks: bool = False
    """Take acknowledgements whose flags are not those of the segment (RFC 9174 section 5.2.3), as dtn7-rs sends them."""
    single_segment: bool = False
    """Send no bundle in several segments: what the peer cannot take in one is fragmented. For dtn7-go."""
    test_extensions: Literal["", "private", "critical_session", "critical_transfer"] = ""
    """Try peers with extension items of a private type: `private` with sessions and transfers, which peers have to pass
    over; `critical_session`, `critical_transfer` as a critical item, which they have to refuse."""
    dial_s: PositiveSeconds = 10.0
    """Seconds to wait for a TCP connection."""
    retry_s_first: PositiveSeconds = 0.25
    """Seconds before a lost or refused session is tried again; doubles with each failure."""
    retry_s_max: PositiveSeconds = 30.0
    """The longest time between two attempts."""
    tls: TlsConfig = msgspec.field(default_factory=TlsConfig)
    """TLS."""
    limits: LimitsConfig = msgspec.field(default_factory=LimitsConfig)
    """Bounds."""

    def __post_init__(self) -> None:
        problems = tls_problems(self.tls)
        if self.retry_s_first > self.retry_s_max:
            problems.append("retry_s_first: longer than retry_s_max; write a smaller one")
        if problems:
            raise ValueError("; ".join(problems))  # msgspec adds where it stands


def tls_contexts(tls: TlsConfig) -> TlsContexts | None:
    """None without TLS."""
    return None if tls.effective_mode == "off" else TlsContexts(tls_files(tls))


def _segments(config: Tcpcl4Config) -> dict[str, Any]:
    """How long the segments are that a session sends."""
    first = config.segment_first_octets or _SESSION.segment_octets_first
    least, most = _SESSION.segment_octets_least, _SESSION.segment_octets_most
    fixed = not config.segment_ack_s
    return {
        "segment_octets_first": first,
        "segment_octets_least": first if fixed else min(first, least),
        "segment_octets_most": first if fixed else max(first, most),
        "segment_ack_s": config.segment_ack_s or _SESSION.segment_ack_s,
    }


def session_config(
    config: Tcpcl4Config, node_id: str, ip: str, dialled: Address | None, expected_node_id: str | None
) -> SessionConfig:
    """What one session is told; `dialled` is the address that we connected to."""
    mode = config.tls.effective_mode
    return SessionConfig(
        **_segments(config),
        node_id=node_id,
        keepalive_s=config.keepalive_s,
        segment_mru=config.segment_mru,
        transfer_mru=config.transfer_mru,
        lenient_acks=config.lenient_acks,
        single_segment=config.single_segment,
        can_tls=mode != "off",
        require_tls={"required": True, "optional": None, "off": False}[mode],
        authentication=AuthenticationPolicy.named(config.tls.authenticate, config.tls.allow_uri_san),
        expected_node_id=expected_node_id,
        expected_host=dialled.host if dialled is not None and dialled.is_name else None,
        peer_address=ip,
        contact_timeout_s=config.limits.handshake_s,
        tls_timeout_s=config.limits.handshake_s,
        init_timeout_s=config.limits.handshake_s,
        idle_s=0.0 if dialled is not None else config.idle_s,
        session_extensions=_test_items(config.test_extensions, "session"),
        transfer_extensions=_test_items(config.test_extensions, "transfer"),
        idle_messages_per_s=config.limits.max_idle_messages_per_s,
        unsettled_most=config.limits.max_unanswered,
        unsettled_octets_most=config.limits.max_unanswered_octets,
    )


def _test_items(wanted: str, of: str) -> tuple[ExtensionItem, ...]:
    """What `test_extensions` puts into a "session" or a "transfer"."""
    if wanted == "private":
        return (ExtensionItem(0, PRIVATE_EXTENSION, b"tumpline"),)
    return (ExtensionItem(CRITICAL, PRIVATE_EXTENSION, b"tumpline"),) if wanted == f"critical_{of}" else ()
