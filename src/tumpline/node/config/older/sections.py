"""What the older agent's YAML may say: one file, with a section for each of its agents.

Names and defaults are its own. The text below a field is its documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from tumpline.drivers.dial import parse_address
from tumpline.errors import ConfigError, TumplineError
from tumpline.machines.routing._regex import compile_bounded
from tumpline.node.config.model import Section
from tumpline.node.names import check_node_id
from tumpline.wire.eid import Eid

PORT: Final = 4556  # dtn-bundle: RFC 9174 §8.1, RFC 7122 §4
LEVELS = ("debug", "info", "warning", "error", "critical")


def check_claimed_id(text: str) -> None:
    """A node ID, or nothing. Raises: TumplineError."""
    if text:
        check_node_id(Eid.parse(text))


def check_host(text: str) -> None:
    """A name or an IP address without a port. Raises: TumplineError."""
    try:
        if ":" in text:
            IPv6Address(text)
        parse_address(endpoint(text, PORT), PORT)
    except (ValueError, TumplineError):
        raise ConfigError(f"{text!r} is no address; write a name or an IP address, and the port under port") from None


def endpoint(host: str, port: int) -> str:
    """As the links write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_level(text: str) -> None:
    """Raises: ConfigError."""
    if text.lower() not in LEVELS:
        raise ConfigError(f"{text!r} is no level; write one of: {', '.join(LEVELS)}")


def check_pattern(text: str) -> None:
    """Raises: ConfigError."""
    compile_bounded(text)


def check_mac(text: str) -> None:
    """Raises: ConfigError."""
    parts = text.split(":")
    if len(parts) != 6 or not all(len(part) == 2 and set(part) <= set("0123456789abcdefABCDEF") for part in parts):
        raise ConfigError(f"{text!r} is no Ethernet address; write six octets: 01:00:5E:90:00:04")


ClaimedId = Annotated[str, Meta(extra={"check": check_claimed_id})]
Host = Annotated[str, Meta(extra={"check": check_host})]
Level = Annotated[str, Meta(extra={"check": check_level})]
Pattern = Annotated[str, Meta(extra={"check": check_pattern})]
Port = Annotated[int, Meta(ge=0, le=65535)]
PeerPort = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=86_400_000)]


class AgentSection(Section, frozen=True):
    """Common to all agents."""

    log_level: Level | None = None
    """The least that is worth a line; `--log-level` goes before it."""
    enable_test: list[Literal["private_extensions"]] = []
    """Test behaviour of the wire."""
    bus_addr: str | None = None
    """`session` (also without it), `system`, or any D-Bus address."""
    bus_service: str | None = None
    """The name to own on the bus; without it none."""


class ClaSection(AgentSection, frozen=True):
    """Common to convergence layers."""

    node_id: ClaimedId = ""
    """What peers are told."""


class Listen(Section, frozen=True):
    """Where to listen."""

    address: Host = ""
    """`""`, `0.0.0.0` or `::` for every address of this machine."""
    port: Port = PORT


class Connect(Section, frozen=True):
    """Whom to dial."""

    address: Host = ""
    port: PeerPort = PORT

    def __post_init__(self) -> None:
        if not self.address:
            raise ValueError("address: missing; write the peer's name or IP address, such as 192.0.2.7")


class TcpclSection(ClaSection, frozen=True):
    """The TCPCLv4 agent."""

    init_listen: list[Listen] = []
    init_connect: list[Connect] = []
    stop_on_close: bool = False
    """The agent ends when its last session has ended."""
    hold_received: bool = False
    """A key of our own: bundles are taken only while somebody on the bus answers for them (`recv_bundle_hold`), as nodes
    do, and acknowledged then."""
    tls_enable: bool = True
    """Offer TLS; without a certificate there is none to offer."""
    tls_version: Literal["1.0", "1.1", "1.2", "1.3"] | None = None
    """The oldest version to speak: 1.2 (without it too) or 1.3."""
    tls_ciphers: str | None = None
    """OpenSSL's list of ciphers, for TLS 1.2."""
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_dhparam: str | None = None
    """Passed over: keys are agreed on elliptic curves."""
    require_tls: bool | None = None
    """true: only with TLS; false: only without; null: as the peer likes."""
    require_host_authn: bool = False
    """The certificate must name the host."""
    require_node_authn: bool = False
    """The certificate must name the node ID."""
    keepalive_time: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Seconds; 0: none."""
    idle_time: Annotated[float, Meta(ge=0)] | None = 0
    """Seconds without transfers after which a session is ended; 0: never; null: twice keepalive_time."""
    segment_size_mru: Count = 10 << 20
    """Octets of the largest segment to take."""
    segment_size_tx_initial: Count | None = None
    """Octets of the segments to send, to begin with."""
    modulate_target_ack_time: Annotated[float, Meta(gt=0)] | None = None
    """Seconds: segments grow or shrink so that one is acknowledged in this time."""


class Member(Section, frozen=True):
    """A multicast group."""

    addr: str
    iface: str | int | None = None
    """Name or number of the interface."""


class UdpListen(Listen, frozen=True):
    """Where to listen, and for which groups."""

    multicast_member: list[Member] = []


class Multicast(Section, frozen=True):
    """What is sent to groups."""

    ttl: Annotated[int, Meta(ge=0, le=255)] | None = None


class Polling(Connect, frozen=True):
    """Whom to tell, again and again, that we listen."""

    local_address: Host | None = None
    local_port: Port | None = None
    interval_ms: Annotated[int, Meta(ge=1, le=86_400_000)] = 60_000


class UdpclSection(ClaSection, frozen=True):
    """The UDPCL agent."""

    dtls_enable_tx: bool = True
    """Begin conversations with DTLS; without a certificate there is none."""
    dtls_version: Literal["1.0", "1.2", "1.3"] | None = None
    dtls_ciphers: str | None = None
    dtls_ca_file: str | None = None
    dtls_cert_file: str | None = None
    dtls_key_file: str | None = None
    require_tls: bool | None = False
    """Take nothing that comes without DTLS."""
    default_tx_address: str | None = None
    default_tx_port: PeerPort | None = None
    mtu_default: Annotated[int, Meta(ge=64, le=65_527)] | None = None
    """Octets of the largest datagram, without headers."""
    ecn_init: bool = True
    ecn_feedback: bool = True
    ecn_feedback_min: Milliseconds = 20
    ecn_feedback_max: Milliseconds = 1000
    multicast: Multicast = Multicast()
    init_listen: list[UdpListen] = []
    polling: list[Polling] = []


class EthernetMember(Section, frozen=True):
    """A group of Ethernet."""

    addr: Annotated[str, Meta(extra={"check": check_mac})]


class EthernetListen(Section, frozen=True):
    """An interface to listen on."""

    ifname: str
    multicast_member: list[EthernetMember] = []


class EthernetPolling(Section, frozen=True):
    """Whom to tell over Ethernet that we listen."""

    address: str
    local_address: str | None = None
    interval_ms: Annotated[int, Meta(ge=1)] = 60_000


class BtpuSection(ClaSection, frozen=True):
    """The agent of BTP-U over Ethernet."""

    mtu_default: int | None = None
    multicast: Multicast = Multicast()
    init_listen: list[EthernetListen] = []
    polling: list[EthernetPolling] = []


class RxRoute(Section, frozen=True):
    """What is done with bundles whose destination matches; the first that matches decides."""

    eid_pattern: Pattern
    action: Literal["delete", "deliver", "forward"]


class TxRoute(Section, frozen=True):
    """Whom bundles go to whose destination matches; the first that matches decides."""

    eid_pattern: Pattern
    next_nodeid: ClaimedId
    cl_type: Literal["tcpcl", "udpcl", "btpu"]
    address: str | None = None
    """A name or an IP address; of `btpu` an Ethernet address."""
    port: PeerPort = PORT
    mtu: Count | None = None
    local_if: str | int | None = None
    local_address: str | None = None
    local_port: Port | None = None


class Sand(Section, frozen=True):
    """Neighbour discovery (`nmp` before 2025)."""

    enable: bool = False
    endpoint: str | None = None
    hello_min_intvl: float = 1
    hello_nom_intvl: float = 10


class Safe(Section, frozen=True):
    """Security associations."""

    endpoint: str | None = None
    retx_limit_edhoc: int = 10
    retx_limit_normal: int = 10


class Zeroconf(Section, frozen=True):
    """Discovery by multicast DNS."""

    offer: bool | float = False
    enumerate: bool | float = False
    hostname: str | None = None
    instance: str | None = None


class Apps(Section, frozen=True):
    """Applications within the agent."""

    sand: Sand = Sand()
    nmp: Sand = Sand()
    safe: Safe = Safe()
    zeroconf: Zeroconf = Zeroconf()


class BpSection(AgentSection, frozen=True):
    """The bundle agent."""

    node_id: Annotated[Eid, Meta(extra={"check": check_node_id})] | None = None
    """Its node ID; it must be there."""
    rx_route_table: list[RxRoute] = []
    tx_route_table: list[TxRoute] = []
    verify_ca_file: str | None = None
    sign_cert_file: str | None = None
    sign_key_file: str | None = None
    encr_cert_file: str | None = None
    encr_key_file: str | None = None
    integrity_include_chain: bool = True
    accept_after_verify: bool = False
    cl_attach: dict[str, str] = {}
    """Convergence layers: type and the name of its agent on the bus. Filled from `bus_service` of the same file."""
    apps: Apps = Apps()


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "tcpcl": TcpclSection,
    "udpcl": UdpclSection,
    "btpu": BtpuSection,
    "bp": BpSection,
}
