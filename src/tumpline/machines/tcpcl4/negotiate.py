"""What two SESS_INITs make of a session (RFC 9174 §4.6 to §4.8). Pure."""

from __future__ import annotations

from tumpline.errors import MalformedError, RemoteProtocolError
from tumpline.machines.authenticate import (
    Demand,
    Finding,
    PeerCertificate,
    authenticate_host,
    authenticate_node,
    node_id_or_none,
)
from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.machines.tcpcl4.events import SessionEstablished
from tumpline.wire.tcpcl4 import SessionInit, TerminationCode, decode_extensions_untrusted, encode_extensions


def own_init(config: SessionConfig) -> SessionInit:
    """Our SESS_INIT."""
    extensions = encode_extensions(list(config.session_extensions))
    return SessionInit(config.keepalive_s, config.segment_mru, config.transfer_mru, config.node_id.encode(), extensions)


def check_host(config: SessionConfig, certificate: PeerCertificate | None) -> None:
    """RFC 9174 §4.4.4.2, right after the handshake. Raises: RemoteProtocolError."""
    host = authenticate_host(certificate, config.expected_host, config.peer_address, config.authentication)
    if not host.acceptable:
        raise _failure(host.text)


def negotiate(
    config: SessionConfig, init: SessionInit, tls: bool, certificate: PeerCertificate | None
) -> SessionEstablished:
    """The session that our preferences and the peer's SESS_INIT make.

    Raises: RemoteProtocolError with the SESS_TERM reason (always "Contact Failure")."""
    _check_extensions(init.extensions)
    node_id = _peer_node_id(config, init.node_id)
    if init.segment_mru < config.segment_mru_least or init.transfer_mru < config.transfer_mru_least:
        raise _failure(f"Segment MRU {init.segment_mru} or Transfer MRU {init.transfer_mru} is too small to be of use")
    keepalive_s = min(config.keepalive_s, init.keepalive_s)
    if 0 < keepalive_s < config.keepalive_s_least:
        raise _failure(f"a keepalive interval of {keepalive_s} s is too short")
    authenticated, how = _authenticate(config, node_id, tls, certificate)
    transfer_mru = min(init.transfer_mru, init.segment_mru) if config.single_segment else init.transfer_mru
    return SessionEstablished(node_id, init.segment_mru, transfer_mru, keepalive_s, authenticated, how)


def _check_extensions(extensions: bytes) -> None:
    try:
        items = decode_extensions_untrusted(extensions)
    except MalformedError as error:
        raise _failure(f"session extension items: {error}") from None
    for item in items:  # RFC 9174 §4.8: no session extension is known here
        if item.is_critical:
            raise _failure(f"critical session extension 0x{item.type:04x} is unknown here")


def _peer_node_id(config: SessionConfig, octets: bytes) -> str:
    """RFC 9174 §4.6: UTF-8, a URI of a registered scheme; none at all is allowed."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise _failure("the node ID is no UTF-8") from None
    eid = node_id_or_none(text)
    if text and (eid is None or eid.is_local):
        raise _failure(f"{text!r} is no node ID")
    if config.expected_node_id is not None and eid != node_id_or_none(config.expected_node_id):
        raise _failure(f"expected {config.expected_node_id}, met {text or 'a peer without node ID'}")
    return text


def _authenticate(
    config: SessionConfig, node_id: str, tls: bool, certificate: PeerCertificate | None
) -> tuple[bool, str]:
    """RFC 9174 §4.4.4.3. Whether the node ID may be relied on, and why."""
    if not tls:
        return False, "no TLS: nothing vouches for the node ID"
    node = authenticate_node(certificate, node_id, config.authentication)
    if not node.acceptable:
        raise _failure(node.text)
    if node.finding is Finding.SUCCESS:
        return True, node.text
    # RFC 9174 §3.4, §4.4.5: policy may let network-level identifiers vouch where certificates cannot name nodes.
    host = authenticate_host(certificate, config.expected_host, config.peer_address, config.authentication)
    vouches = config.authentication.host is Demand.REQUIRE and host.finding is Finding.SUCCESS
    return vouches and bool(node_id), f"{node.text}; {host.text}"


def _failure(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(text, TerminationCode.CONTACT_FAILURE)
