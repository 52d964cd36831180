"""Does a peer's certificate vouch for it? Pure decisions on names (RFC 9174 §4.4.4.2, §4.4.4.3; UDPCL has the same rules).

The certification path, key usage and revocation are the TLS library's (§4.4.4.1); what it found is a PeerCertificate.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire.eid import Eid


class PeerCertificate(NamedTuple):
    """The subjectAltName entries of a certificate whose path is valid (RFC 9174 §4.4.1)."""

    node_ids: tuple[str, ...] = ()  # otherName, form id-on-bundleEID
    uris: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()


class Demand(Enum):
    """What policy wants to know about one kind of identity."""

    IGNORE = "ignore"
    CHECK = "check"  # a mismatch ends the session, absence does not
    REQUIRE = "require"


class AuthenticationPolicy(NamedTuple):
    """RFC 9174 §4.4.5 recommends: require the node ID, ignore network-level names. Applies when TLS is used."""

    host: Demand = Demand.IGNORE
    node: Demand = Demand.REQUIRE
    allow_uri_san: bool = False  # count a URI entry as NODE-ID (certificates made for older implementations)

    @classmethod
    def named(cls, mode: str, allow_uri_san: bool = False) -> AuthenticationPolicy:
        """`node`, `host`, `both`, `check` or `none`. Raises: KeyError."""
        return cls(*_MODES[mode], allow_uri_san)


_MODES = {
    "node": (Demand.IGNORE, Demand.REQUIRE),
    "host": (Demand.REQUIRE, Demand.CHECK),
    "both": (Demand.REQUIRE, Demand.REQUIRE),
    "check": (Demand.CHECK, Demand.CHECK),
    "none": (Demand.IGNORE, Demand.IGNORE),
}


class Finding(Enum):
    """RFC 9174 §4.4.4."""

    ABSENT = "absent"
    SUCCESS = "success"
    FAILURE = "failure"


class Decision(NamedTuple):
    """Whether policy lets the session go on, what was found, and a sentence for people."""

    acceptable: bool
    finding: Finding
    text: str

    @property
    def is_success(self) -> bool:
        """Whether a name was proved."""
        return self.finding is Finding.SUCCESS


def authenticate_host(
    certificate: PeerCertificate | None, host: str | None, address: str | None, policy: AuthenticationPolicy
) -> Decision:
    """RFC 9174 §4.4.4.2: `host` is the DNS name that was resolved, `address` the other side's IP address.

    Only entries of a kind for which we have a reference count: who was not dialled by name cannot be held to one."""
    if policy.host is Demand.IGNORE:
        return Decision(True, Finding.ABSENT, "host names of the certificate are not looked at")
    certificate = certificate or PeerCertificate()
    names = certificate.dns_names if host else ()
    addresses = certificate.ip_addresses if address else ()
    if not names and not addresses:
        return _absent(policy.host, "no host name or address to compare")
    if host and any(_dns_name_matches(name, host) for name in names):
        return Decision(True, Finding.SUCCESS, f"the certificate names the host {host}")
    wanted = _ip_address(address) if address else None
    if wanted is not None and any(_ip_address(entry) == wanted for entry in addresses):
        return Decision(True, Finding.SUCCESS, f"the certificate names the address {address}")
    return Decision(False, Finding.FAILURE, f"{_listed((*names, *addresses))}, not {host or address}")


def authenticate_node(certificate: PeerCertificate | None, node_id: str, policy: AuthenticationPolicy) -> Decision:
    """RFC 9174 §4.4.4.3: `node_id` is what the peer says of itself ("" = nothing)."""
    if policy.node is Demand.IGNORE:
        return Decision(True, Finding.ABSENT, "node IDs of the certificate are not looked at")
    certificate = certificate or PeerCertificate()
    claims = certificate.node_ids + (certificate.uris if policy.allow_uri_san else ())
    # RFC 9174 §4.4.1: "SHALL ignore any entry ... some URI other than a node ID".
    named = {eid: text for text in claims if (eid := node_id_or_none(text)) is not None}
    if not named:
        return _absent(policy.node, "no node ID")
    eid = node_id_or_none(node_id)
    if eid is None and policy.node is Demand.CHECK:
        return Decision(True, Finding.ABSENT, "the peer gives no node ID to compare with its certificate")
    if eid in named:
        return Decision(True, Finding.SUCCESS, f"the certificate names the node {node_id}")
    return Decision(False, Finding.FAILURE, f"{_listed(named.values())}, not {node_id or 'a peer without node ID'}")


def node_id_or_none(text: str) -> Eid | None:
    """The node ID that a text is, by the comparison rules of its scheme (RFC 9171 §4.2.5.1), or None."""
    try:
        eid = Eid.parse(text)
    except MalformedError:
        return None
    return eid if eid.is_administrative and not eid.is_null else None


def _absent(demand: Demand, missing: str) -> Decision:
    return Decision(demand is not Demand.REQUIRE, Finding.ABSENT, f"the certificate has {missing}")


def _listed(names: Iterable[str]) -> str:
    return f"the certificate names {', '.join(names)}"


def _dns_name_matches(pattern: str, host: str) -> bool:
    """RFC 6125 §6.4: without regard to case; "*" only as the whole left-most label, for exactly one label, and not for
    a name right below the root."""
    pattern, host = _dns_labels(pattern), _dns_labels(host)
    if not pattern.startswith("*."):
        return bool(pattern) and pattern == host
    suffix = pattern[1:]
    label = host.removesuffix(suffix)
    return suffix.count(".") >= 2 and host.endswith(suffix) and bool(label) and "." not in label


def _dns_labels(name: str) -> str:
    name = name.rstrip(".").lower()
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")  # RFC 6125 §6.4.2: compare A-labels
    except UnicodeError:
        return ""


def _ip_address(text: str) -> IPv4Address | IPv6Address | None:
    """None for what is no address. An IPv4 address that came through an IPv6 socket is the IPv4 address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
