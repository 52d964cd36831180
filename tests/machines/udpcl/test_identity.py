"""Who a peer is, by its certificate and by what it tells inside of DTLS."""

import pytest

from tumpline.machines.authenticate import AuthenticationPolicy, PeerCertificate
from tumpline.machines.udpcl.identity import PeerIdentity, Reference, sole_node_id
from tumpline.wire.eid import Eid

A, B, C = Eid.parse("dtn://a/"), Eid.parse("dtn://b/"), Eid.parse("ipn:3.0")
ONE, TWO, NONE = PeerCertificate(("dtn://a/",)), PeerCertificate(("dtn://a/", "dtn://b/")), PeerCertificate()
NODE, IGNORE = AuthenticationPolicy.named("node"), AuthenticationPolicy.named("none")


def identity(
    certificate: PeerCertificate | None, policy: AuthenticationPolicy = NODE, **reference: Eid | str | None
) -> PeerIdentity:
    return PeerIdentity(certificate, policy, Reference()._replace(**reference))  # type: ignore[arg-type]


def test_one_name_is_the_peers_without_a_word() -> None:
    peer = identity(ONE)
    assert peer.check() == ""
    assert peer.proved == A
    assert peer.told(A) == ""


def test_of_several_names_the_peer_says_which() -> None:
    peer = identity(TWO)
    assert peer.check() == ""
    assert peer.proved is None
    assert peer.told(B) == ""
    assert peer.proved == B


def test_whom_we_expect_must_be_named() -> None:
    peer = identity(TWO, node_id=B)
    assert peer.check() == ""
    assert peer.proved == B
    assert peer.told(A) == "the peer calls itself dtn://a/, not dtn://b/"
    assert identity(ONE, node_id=C).check() == "the certificate names dtn://a/, not ipn:3.0"


@pytest.mark.parametrize("certificate", [ONE, TWO])
def test_a_name_that_the_certificate_has_not_is_refused(certificate: PeerCertificate) -> None:
    peer = identity(certificate)
    assert peer.check() == ""
    assert "not ipn:3.0" in peer.told(C)


def test_no_name_at_all() -> None:
    for certificate in (NONE, None):
        assert identity(certificate).check() == "the certificate has no node ID"
        peer = identity(certificate, IGNORE)
        assert peer.check() == ""
        assert peer.told(A) == ""
        assert peer.proved is None


def test_hosts_are_looked_at_if_policy_wants_so() -> None:
    policy = AuthenticationPolicy.named("both")
    named = PeerCertificate(("dtn://a/",), dns_names=("relay.example",), ip_addresses=("192.0.2.1",))
    assert identity(named, policy, host="relay.example", address="192.0.2.7").check() == ""
    assert identity(named, policy, address="192.0.2.1").check() == ""
    assert "not 192.0.2.7" in identity(named, policy, address="192.0.2.7").check()


def test_the_sole_name() -> None:
    assert sole_node_id(ONE) == A
    assert sole_node_id(TWO) is None
    assert sole_node_id(NONE) is None
    assert sole_node_id(PeerCertificate(("no EID",))) is None
