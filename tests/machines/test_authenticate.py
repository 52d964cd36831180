"""Absent, Success and Failure of each kind of identity (RFC 9174 §4.4.4) under each policy."""

from __future__ import annotations

import pytest

from tumpline.machines.authenticate import (
    AuthenticationPolicy,
    Demand,
    Finding,
    PeerCertificate,
    authenticate_host,
    authenticate_node,
)

NODE = PeerCertificate(node_ids=("dtn://a/", "ipn:7.0"))
SERVICE = PeerCertificate(node_ids=("dtn://a/service", "dtn:none", "http://a/", ""))
URI = PeerCertificate(uris=("https://a.example/", "dtn://a/"))
EMPTY = PeerCertificate()


@pytest.mark.parametrize(
    ("certificate", "node_id", "finding"),
    [
        (NODE, "dtn://a/", Finding.SUCCESS),
        (NODE, "ipn:7.0", Finding.SUCCESS),
        (NODE, "ipn:0.7.0", Finding.SUCCESS),  # the same node, written with its allocator
        (NODE, "dtn://b/", Finding.FAILURE),
        (NODE, "ipn:8.0", Finding.FAILURE),
        (NODE, "ipn:1.7.0", Finding.FAILURE),
        (SERVICE, "dtn://a/", Finding.ABSENT),  # §4.4.1: what is no node ID is ignored
        (URI, "dtn://a/", Finding.ABSENT),
        (EMPTY, "dtn://a/", Finding.ABSENT),
        (None, "dtn://a/", Finding.ABSENT),
        (EMPTY, "", Finding.ABSENT),
    ],
)
@pytest.mark.parametrize("demand", [Demand.CHECK, Demand.REQUIRE])
def test_node(certificate: PeerCertificate | None, node_id: str, finding: Finding, demand: Demand) -> None:
    decision = authenticate_node(certificate, node_id, AuthenticationPolicy(node=demand))
    acceptable = finding is Finding.SUCCESS or (finding is Finding.ABSENT and demand is Demand.CHECK)
    assert (decision.finding, decision.acceptable) == (finding, acceptable)
    assert decision.text


def test_a_peer_without_node_id_has_none_to_authenticate() -> None:
    required = authenticate_node(NODE, "", AuthenticationPolicy(node=Demand.REQUIRE))
    assert (required.acceptable, required.finding) == (False, Finding.FAILURE)
    checked = authenticate_node(NODE, "", AuthenticationPolicy(node=Demand.CHECK))
    assert (checked.acceptable, checked.finding) == (True, Finding.ABSENT)


def test_uri_entries_count_only_by_configuration() -> None:
    policy = AuthenticationPolicy(node=Demand.REQUIRE, allow_uri_san=True)
    assert authenticate_node(URI, "dtn://a/", policy).finding is Finding.SUCCESS
    assert authenticate_node(URI, "dtn://b/", policy).finding is Finding.FAILURE
    assert authenticate_node(URI, "https://a.example/", policy).finding is Finding.FAILURE


HOST = PeerCertificate(dns_names=("relay.example", "*.mesh.example"), ip_addresses=("192.0.2.7", "2001:db8::7"))


@pytest.mark.parametrize(
    ("certificate", "host", "address", "finding"),
    [
        (HOST, "relay.example", "198.51.100.1", Finding.SUCCESS),
        (HOST, "RELAY.Example.", None, Finding.SUCCESS),
        (HOST, "a.mesh.example", None, Finding.SUCCESS),
        (HOST, "A.MESH.EXAMPLE", None, Finding.SUCCESS),
        (HOST, "a.b.mesh.example", None, Finding.FAILURE),  # "*" is one label
        (HOST, "mesh.example", None, Finding.FAILURE),
        (HOST, ".mesh.example", None, Finding.FAILURE),
        (HOST, "other.example", "192.0.2.7", Finding.SUCCESS),  # the address vouches as well
        (HOST, "other.example", "192.0.2.8", Finding.FAILURE),
        (HOST, None, "192.0.2.7", Finding.SUCCESS),
        (HOST, None, "::ffff:192.0.2.7", Finding.SUCCESS),
        (HOST, None, "2001:0DB8:0::0007", Finding.SUCCESS),
        (HOST, None, "192.0.2.8", Finding.FAILURE),
        (HOST, None, "fe80::7%eth0", Finding.FAILURE),
        (HOST, None, None, Finding.ABSENT),
        (PeerCertificate(dns_names=("relay.example",)), None, "192.0.2.7", Finding.ABSENT),
        (PeerCertificate(dns_names=("*.example",)), "relay.example", None, Finding.FAILURE),  # right below the root
        (PeerCertificate(dns_names=("*",)), "relay", None, Finding.FAILURE),
        (PeerCertificate(dns_names=("r*.a.example",)), "relay.a.example", None, Finding.FAILURE),
        (PeerCertificate(dns_names=("a.*.example",)), "a.b.example", None, Finding.FAILURE),
        (PeerCertificate(dns_names=("xn--bcher-kva.example",)), "bücher.example", None, Finding.SUCCESS),
        (PeerCertificate(dns_names=("",)), "", None, Finding.ABSENT),
        (PeerCertificate(ip_addresses=("nonsense",)), None, "192.0.2.7", Finding.FAILURE),
        (PeerCertificate(dns_names=("192.0.2.7",)), None, "192.0.2.7", Finding.ABSENT),
        (EMPTY, "relay.example", "192.0.2.7", Finding.ABSENT),
        (None, "relay.example", "192.0.2.7", Finding.ABSENT),
    ],
)
@pytest.mark.parametrize("demand", [Demand.CHECK, Demand.REQUIRE])
def test_host(
    certificate: PeerCertificate | None, host: str | None, address: str | None, finding: Finding, demand: Demand
) -> None:
    decision = authenticate_host(certificate, host, address, AuthenticationPolicy(host=demand))
    acceptable = finding is Finding.SUCCESS or (finding is Finding.ABSENT and demand is Demand.CHECK)
    assert (decision.finding, decision.acceptable) == (finding, acceptable)
    assert decision.text


def test_what_policy_ignores_is_acceptable_whatever_it_says() -> None:
    policy = AuthenticationPolicy.named("none")
    assert authenticate_host(HOST, "other.example", None, policy)[:2] == (True, Finding.ABSENT)
    assert authenticate_node(NODE, "dtn://b/", policy)[:2] == (True, Finding.ABSENT)


def test_named_policies() -> None:
    """RFC 9174 §4.4.5 recommends what `node` does; it is the default."""
    assert AuthenticationPolicy.named("node") == AuthenticationPolicy() == (Demand.IGNORE, Demand.REQUIRE, False)
    assert AuthenticationPolicy.named("host", allow_uri_san=True) == (Demand.REQUIRE, Demand.CHECK, True)
    assert AuthenticationPolicy.named("both")[:2] == (Demand.REQUIRE, Demand.REQUIRE)
    with pytest.raises(KeyError):
        AuthenticationPolicy.named("all")
