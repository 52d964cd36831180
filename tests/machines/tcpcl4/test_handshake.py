"""Contact headers, TLS, SESS_INIT: what is agreed and what ends the session, octet by octet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tumpline.machines.authenticate import AuthenticationPolicy, Demand, PeerCertificate
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.events import (
    Close,
    ContactHeaderExchanged,
    Read,
    SessionEnding,
    SessionEstablished,
    SessionTerminated,
    TlsStart,
)
from tumpline.machines.tcpcl4.negotiate import negotiate
from tumpline.machines.tcpcl4.session import READ_MOST, Session
from tumpline.machines.tcpcl4.states import State
from tumpline.testing.tcpcl4 import MemoryDriver, Pair
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.tcpcl4 import TerminationCode

ACTIVE = SessionConfig(node_id="dtn://active/", keepalive_s=30, segment_mru=1000, transfer_mru=5000)
PASSIVE = SessionConfig(node_id="dtn://passive/", keepalive_s=20, segment_mru=2000, transfer_mru=6000)
CONTACT = b"dtn!\x04\x00"
CONTACT_TLS = b"dtn!\x04\x01"
PEER_INIT = wire.SessionInit(30, 1000, 5000, b"dtn://peer/")


def driver(role: Role, config: SessionConfig = ACTIVE) -> MemoryDriver:
    """A driver whose connection is there."""
    made = MemoryDriver(config, role)
    made.session.connected(0.0)
    return made


def ended(end: MemoryDriver) -> SessionTerminated:
    (event,) = end.of(SessionTerminated)
    assert end.is_closed
    assert end.log[-1] == Close()
    assert end.session.wants() is None
    return event


def meet(end: MemoryDriver, init: wire.SessionInit = PEER_INIT) -> bytes:
    """Play the peer up to its SESS_INIT; what was written after our own SESS_INIT."""
    end.feed(CONTACT, 0.0)
    end.write(9999, 0.0)
    end.feed(wire.encode_init(init), 0.0)
    end.write(9999, 0.0)
    own = CONTACT + wire.encode_init(wire.SessionInit(30, 1000, 5000, b"dtn://active/"))
    assert end.sent.startswith(own)
    return bytes(end.sent[len(own) :])


def test_parameters_are_negotiated() -> None:
    pair = Pair(ACTIVE, PASSIVE).connect()
    how = "no TLS: nothing vouches for the node ID"
    assert pair.active.log == [
        ContactHeaderExchanged(False),
        SessionEstablished("dtn://passive/", 2000, 6000, 20, False, how),
    ]
    assert pair.passive.log == [
        ContactHeaderExchanged(False),
        SessionEstablished("dtn://active/", 1000, 5000, 20, False, how),
    ]


@pytest.mark.parametrize(("mine", "theirs", "both"), [(30, 20, 20), (20, 30, 20), (0, 30, 0), (30, 0, 0), (0, 0, 0)])
def test_keepalive_is_the_minimum(mine: int, theirs: int, both: int) -> None:
    pair = Pair(replace(ACTIVE, keepalive_s=mine), replace(PASSIVE, keepalive_s=theirs)).connect()
    assert [event.keepalive_s for event in pair.active.of(SessionEstablished)] == [both]
    assert [event.keepalive_s for event in pair.passive.of(SessionEstablished)] == [both]


def test_the_active_entity_speaks_first() -> None:
    """RFC 9174 §4.1."""
    assert driver(Role.ACTIVE).write(100, 0.0) == CONTACT
    passive = driver(Role.PASSIVE)
    assert passive.write(100, 0.0) == b""
    passive.feed(CONTACT, 0.0)
    assert passive.write(100, 0.0) == CONTACT  # and waits for SESS_INIT (Figure 9)
    passive.feed(wire.encode_init(PEER_INIT), 0.0)
    assert passive.write(100, 0.0)[0] == wire.MessageType.SESS_INIT


def test_not_one_octet_beyond_the_contact_header_is_read() -> None:
    session = Session(replace(ACTIVE, can_tls=True), Role.ACTIVE, lambda: 0.0)
    session.connected(0.0)
    for index, octet in enumerate(CONTACT_TLS):
        assert session.wants() == Read(6 - index)
        assert session.receive(memoryview(bytes([octet])), 0.0) == 1
    assert session.events() == [ContactHeaderExchanged(True), TlsStart(False)]
    assert session.wants() is None
    session.tls_done(None, 0.0)
    assert session.wants() == Read(READ_MOST)


def test_octets_behind_the_contact_header_stay_with_the_driver() -> None:
    session = Session(replace(ACTIVE, can_tls=True), Role.PASSIVE, lambda: 0.0)
    session.connected(0.0)
    assert session.receive(memoryview(CONTACT_TLS + b"\x16\x03\x01"), 0.0) == 6
    assert session.events() == [ContactHeaderExchanged(True), TlsStart(True)]


def test_after_a_plain_contact_much_is_read() -> None:
    active = driver(Role.ACTIVE)
    active.feed(CONTACT, 0.0)
    assert active.session.wants() == Read(READ_MOST)


@pytest.mark.parametrize(
    ("active", "passive", "tls"),
    [
        ((False, None), (False, None), False),
        ((True, None), (False, None), False),
        ((False, None), (True, None), False),
        ((True, None), (True, None), True),
        ((True, True), (True, None), True),
        ((True, False), (True, None), False),
        ((True, True), (True, True), True),
    ],
)
def test_tls_is_used_when_both_can(
    active: tuple[bool, bool | None], passive: tuple[bool, bool | None], tls: bool
) -> None:
    policy = AuthenticationPolicy.named("none")
    pair = Pair(
        replace(ACTIVE, can_tls=active[0], require_tls=active[1], authentication=policy),
        replace(PASSIVE, can_tls=passive[0], require_tls=passive[1], authentication=policy),
    ).connect()
    assert pair.active.of(ContactHeaderExchanged) == [ContactHeaderExchanged(tls)]
    assert pair.passive.of(TlsStart) == ([TlsStart(True)] if tls else [])
    assert pair.active.session.state is pair.passive.session.state is State.ESTABLISHED


@pytest.mark.parametrize("requirer", ["active", "passive"])
def test_tls_required_and_not_offered(requirer: str) -> None:
    """RFC 9174 §4.3: "SHALL terminate the session with a reason code of "Contact Failure"."""
    strict = {"can_tls": True, "require_tls": True}
    pair = Pair(
        replace(ACTIVE, **(strict if requirer == "active" else {})),  # type: ignore[arg-type]
        replace(PASSIVE, **(strict if requirer == "passive" else {})),  # type: ignore[arg-type]
    ).connect()
    end, other = (pair.active, pair.passive) if requirer == "active" else (pair.passive, pair.active)
    assert wire.encode_termination(wire.Termination(0, 4)) in bytes(end.sent)
    assert wire.encode_termination(wire.Termination(1, 4)) in bytes(other.sent)
    assert ended(end).reason is ended(other).reason is TerminationCode.CONTACT_FAILURE
    assert ended(end).clean
    assert not end.of(SessionEstablished) + other.of(SessionEstablished)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("octets", [b"GET / ", b"dtn?\x04\x00"])
def test_bad_magic_closes_without_a_word(role: Role, octets: bytes) -> None:
    """RFC 9174 §4.3, §6.1."""
    end = driver(role)
    before = end.write(99, 0.0)
    end.feed(octets + b"/1.1\r\n\r\n", 0.0)
    assert end.write(99, 0.0) == b""
    assert before == (CONTACT if role is Role.ACTIVE else b"")
    assert ended(end).reason is TerminationCode.CONTACT_FAILURE


@pytest.mark.parametrize("version", [0, 3, 5, 255])
def test_passive_answers_another_version_with_version_mismatch(version: int) -> None:
    """RFC 9174 §4.3: "SHALL send its Contact Header and immediately terminate the session"."""
    end = driver(Role.PASSIVE)
    end.feed(b"dtn!" + bytes([version, 0]), 0.0)
    assert end.write(99, 0.0) == CONTACT + b"\x05\x00\x02"
    assert ended(end).reason is TerminationCode.VERSION_MISMATCH
    assert f"version {version}" in ended(end).text


@pytest.mark.parametrize("version", [3, 5])
def test_active_closes_on_another_version(version: int) -> None:
    """RFC 9174 §4.3: "the TCP connection SHALL be closed"."""
    end = driver(Role.ACTIVE)
    end.feed(b"dtn!" + bytes([version, 0]), 0.0)
    assert end.write(99, 0.0) == CONTACT
    assert ended(end).reason is TerminationCode.VERSION_MISMATCH


def test_tls_failure_closes_without_a_word() -> None:
    """RFC 9174 §4.4.3."""
    session = Session(replace(ACTIVE, can_tls=True), Role.ACTIVE, lambda: 0.0)
    session.connected(0.0)
    session.data_to_send(99, 0.0)
    session.receive(memoryview(CONTACT_TLS), 0.0)
    session.events()
    session.tls_failed("bad certificate", 0.0)
    assert session.data_to_send(99, 0.0) == []
    reason = TerminationCode.CONTACT_FAILURE
    assert session.events() == [SessionTerminated(reason, False, False, "TLS: bad certificate"), Close()]
    session.tls_done(None, 0.0)  # too late: no effect
    assert session.events() == []


@pytest.mark.parametrize(
    ("changes", "config", "text"),
    [
        ({"extensions": bytes.fromhex("01 8001 0000")}, {}, "critical session extension 0x8001"),
        ({"extensions": bytes.fromhex("01 0000 0000")}, {}, "critical session extension 0x0000"),
        ({"extensions": bytes.fromhex("00 8001 0002 aa")}, {}, "session extension items"),
        ({"extensions": b"\x00"}, {}, "session extension items"),
        ({"node_id": b"\xff"}, {}, "UTF-8"),
        ({"node_id": b"http://a/"}, {}, "no node ID"),
        ({"node_id": b"dtn://peer/service"}, {}, "no node ID"),
        ({"node_id": b"dtn:none"}, {}, "no node ID"),
        ({"node_id": b"ipn:!.0"}, {}, "no node ID"),
        ({"node_id": b""}, {"expected_node_id": "dtn://peer/"}, "without node ID"),
        ({}, {"expected_node_id": "dtn://other/"}, "expected dtn://other/"),
        ({"segment_mru": 0}, {}, "too small"),
        ({"segment_mru": 63}, {"segment_mru_least": 64}, "too small"),
        ({"transfer_mru": 99}, {"transfer_mru_least": 100}, "too small"),
        ({"keepalive_s": 4}, {"keepalive_s_least": 5}, "too short"),
    ],
)
def test_unacceptable_session_inits(changes: dict[str, object], config: dict[str, object], text: str) -> None:
    """RFC 9174 §4.6 to §4.8: all of them are "Contact Failure"."""
    end = driver(Role.ACTIVE, replace(ACTIVE, **config))  # type: ignore[arg-type]
    assert meet(end, PEER_INIT._replace(**changes)) == b"\x05\x00\x04"  # type: ignore[arg-type]
    (ending,) = end.of(SessionEnding)
    assert (ending.reason, ending.by_peer) == (TerminationCode.CONTACT_FAILURE, False)
    assert text in ending.text
    end.feed(b"\x05\x01\x04", 0.0)
    assert ended(end).clean


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        ({"extensions": bytes.fromhex("00 8001 0002 aabb fe 0001 0000")}, {}),  # not critical; reserved flag bits
        ({"node_id": b""}, {}),
        ({"node_id": b"ipn:7.0"}, {}),
        ({"node_id": b"ipn:0.7.0"}, {"expected_node_id": "ipn:7.0"}),
        ({}, {"expected_node_id": "dtn://peer/"}),
        ({"transfer_mru": 0, "segment_mru": 1}, {}),
        ({"keepalive_s": 0}, {"keepalive_s_least": 5}),
        ({"segment_mru": 2**64 - 1, "transfer_mru": 2**64 - 1, "keepalive_s": 0xFFFF}, {}),
    ],
)
def test_acceptable_session_inits(changes: dict[str, object], config: dict[str, object]) -> None:
    end = driver(Role.ACTIVE, replace(ACTIVE, **config))  # type: ignore[arg-type]
    assert meet(end, PEER_INIT._replace(**changes)) == b""  # type: ignore[arg-type]
    (established,) = end.of(SessionEstablished)
    assert established.node_id == PEER_INIT._replace(**changes).node_id.decode()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "octets",
    [
        "07 001e 0000000000001000 0000000100000000 0801",
        "07 001e 0000000000001000 0000000100000000 0000 00001001",
    ],
)
def test_lists_beyond_the_bounds_end_the_session(octets: str) -> None:
    end = driver(Role.ACTIVE)
    end.feed(CONTACT + bytes.fromhex(octets), 0.0)
    assert end.write(999, 0.0).endswith(b"\x05\x00\x05")
    assert ended(end).reason is TerminationCode.RESOURCE_EXHAUSTION


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_transfer_before_session_init(kind: int) -> None:
    end = driver(Role.PASSIVE)
    end.feed(CONTACT + bytes([kind]) + bytes(30), 0.0)
    assert end.write(999, 0.0) == CONTACT + bytes([6, 3, kind]) + b"\x05\x00\x04"
    assert ended(end).reason is TerminationCode.CONTACT_FAILURE


def test_a_second_session_init_is_unexpected() -> None:
    """RFC 9174 §5.1.2."""
    end = driver(Role.ACTIVE)
    meet(end)
    end.feed(wire.encode_init(PEER_INIT), 0.0)
    assert end.write(99, 0.0) == b"\x06\x03\x07"
    assert end.session.state is State.ESTABLISHED


# ---- authentication within a session ---------------------------------------------------------------------------------


def tls_pair(mode: str, certificate: PeerCertificate | None, **config: object) -> Pair:
    """The passive end judges the active one by its certificate."""
    active = replace(ACTIVE, can_tls=True, authentication=AuthenticationPolicy.named("none"))
    judge = replace(PASSIVE, can_tls=True, authentication=AuthenticationPolicy.named(mode), **config)  # type: ignore[arg-type]
    pair = Pair(active, judge)
    pair.passive.certificate = certificate
    return pair.connect()


def test_a_node_id_that_its_certificate_names() -> None:
    pair = tls_pair("node", PeerCertificate(node_ids=("dtn://x/", "dtn://active/")))
    (established,) = pair.passive.of(SessionEstablished)
    assert established.authenticated
    assert "dtn://active/" in established.how
    assert not pair.active.of(SessionEstablished)[0].authenticated  # its policy does not look


@pytest.mark.parametrize("certificate", [None, PeerCertificate(), PeerCertificate(node_ids=("dtn://other/",))])
def test_a_node_id_that_no_certificate_names(certificate: PeerCertificate | None) -> None:
    """RFC 9174 §4.4.4.3."""
    pair = tls_pair("node", certificate)
    assert ended(pair.passive).reason is ended(pair.active).reason is TerminationCode.CONTACT_FAILURE
    assert not pair.passive.of(SessionEstablished)


def test_a_host_that_its_certificate_names_vouches_where_policy_lets_it() -> None:
    pair = tls_pair("host", PeerCertificate(ip_addresses=("192.0.2.7",)), peer_address="192.0.2.7")
    (established,) = pair.passive.of(SessionEstablished)
    assert established.authenticated


def test_a_host_vouches_for_nobody_unless_policy_requires_hosts() -> None:
    policy = AuthenticationPolicy(host=Demand.CHECK, node=Demand.CHECK)
    certificate = PeerCertificate(ip_addresses=("192.0.2.7",))
    config = replace(ACTIVE, peer_address="192.0.2.7", authentication=policy)
    assert negotiate(config, PEER_INIT, True, certificate).authenticated is False


def test_a_host_vouches_for_no_node_id_that_was_not_given() -> None:
    config = replace(ACTIVE, peer_address="192.0.2.7", authentication=AuthenticationPolicy.named("host"))
    certificate = PeerCertificate(ip_addresses=("192.0.2.7",))
    assert negotiate(config, PEER_INIT, True, certificate).authenticated
    assert not negotiate(config, PEER_INIT._replace(node_id=b""), True, certificate).authenticated


def test_a_host_that_its_certificate_does_not_name_never_sees_our_node_id() -> None:
    """RFC 9174 §4.4.4.2: judged right after the handshake."""
    pair = tls_pair("host", PeerCertificate(ip_addresses=("192.0.2.7",)), peer_address="192.0.2.8")
    assert ended(pair.passive).reason is TerminationCode.CONTACT_FAILURE
    assert b"dtn://passive/" not in pair.passive.sent
