"""Who the peer of a secured conversation is: what its certificate names, and what it says inside of DTLS.

The rules are those of TCPCL (RFC 9174 §4.4.4), which the draft takes over. What stands for the node ID of SESS_INIT is the
Sender Node ID item; a peer whose certificate names exactly one node need not send it.
"""

from __future__ import annotations

from typing import NamedTuple

from tumpline.machines.authenticate import (
    AuthenticationPolicy,
    Demand,
    PeerCertificate,
    authenticate_host,
    authenticate_node,
    node_id_or_none,
)
from tumpline.wire.eid import Eid


class Reference(NamedTuple):
    """What a certificate is compared with."""

    address: str = ""  # the peer's IP address
    host: str | None = None  # the DNS name that was resolved to reach it
    node_id: Eid | None = None  # whom we configured to be there


def sole_node_id(certificate: PeerCertificate) -> Eid | None:
    """The one node that a certificate names; None if it names several or none."""
    found = {node_id_or_none(text) for text in certificate.node_ids}
    return found.pop() if len(found) == 1 else None


class PeerIdentity:
    """Of one handshake. `proved` is the node ID that counts as the peer's, None until there is one."""

    def __init__(self, certificate: PeerCertificate | None, policy: AuthenticationPolicy, reference: Reference) -> None:
        self.proved: Eid | None = None
        self._certificate = certificate
        self._policy = policy
        self._reference = reference

    def check(self) -> str:
        """Once the handshake is over. Returns: why the peer is refused; "" if it is not."""
        reference = self._reference
        host = authenticate_host(self._certificate, reference.host, reference.address, self._policy)
        if not host.acceptable:
            return host.text
        expected = reference.node_id or sole_node_id(self._certificate or PeerCertificate())
        if expected is not None:
            return self._check_node(expected)
        if self._certificate is None or not self._certificate.node_ids:
            decision = authenticate_node(self._certificate, "", self._policy)
            return "" if decision.acceptable else decision.text
        return ""  # of several names, it has to say which one it goes by

    def told(self, node_id: Eid) -> str:
        """A Sender Node ID came inside of DTLS. Returns: why the peer is refused; "" if it is not."""
        expected = self._reference.node_id
        if self._policy.node is not Demand.IGNORE and expected is not None and node_id != expected:
            return f"the peer calls itself {node_id}, not {expected}"
        return self._check_node(node_id)

    def _check_node(self, node_id: Eid) -> str:
        decision = authenticate_node(self._certificate, str(node_id), self._policy)
        if decision.is_success:
            self.proved = node_id
        return "" if decision.acceptable else decision.text
