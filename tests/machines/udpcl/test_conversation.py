"""Two conversations over links that lose, double and reorder, in virtual time."""

from __future__ import annotations

from random import Random

import pytest

from tumpline.machines.impairment import Impairment
from tumpline.machines.udpcl.congestion import Pace
from tumpline.machines.udpcl.conversation import Conversation, ConversationConfig, DtlsUse, State
from tumpline.machines.udpcl.events import (
    DtlsDone,
    DtlsFailed,
    DtlsUnanswered,
    Event,
    PathMtuFound,
    PathMtuShrank,
    PeerListening,
    PeerNamed,
    PeerSilent,
    SpokeVersion2,
    StartDtls,
)
from tumpline.machines.udpcl.feedback import CE, ECT_1, NOT_ECT
from tumpline.machines.udpcl.reassembly import Limits, Reassembly
from tumpline.testing.udpcl import Two
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import (
    KEEPALIVE,
    EcnCounts,
    Extensions,
    Kind,
    Probe,
    Transfer,
    decode_datagram_untrusted,
    encode_extensions,
    kind_of,
)

NODE_A, NODE_B = Eid.parse("dtn://a/"), Eid.parse("ipn:2.0")
CONFIG_A = ConversationConfig(node_id=NODE_A)
CONFIG_B = ConversationConfig(node_id=NODE_B)
FAST = ConversationConfig(pace=Pace(fixed_octets_s=1e6))


def bundle(number: int, octets: int) -> bytes:
    """No bundle, but as long as one, begins like one, and is unlike all others."""
    return b"\x9f" + number.to_bytes(4, "big") + Random(number).randbytes(max(0, octets - 5))


def alone(config: ConversationConfig = CONFIG_A) -> Conversation:
    return Conversation(config, Reassembly(), "peer", Random(1).random, 0.0)


def count(events: list[Event], kind: type[Event]) -> int:
    """How many are of this kind (events without fields are equal as tuples)."""
    return sum(isinstance(event, kind) for event in events)


def maps(datagrams: list[bytes]) -> list[Extensions]:
    return [
        each
        for data in datagrams
        if kind_of(data[0]) is Kind.EXTENSIONS
        for each in decode_datagram_untrusted(data).maps
    ]


# ---- bundles ---------------------------------------------------------------------------------------------------------


def test_bundles_of_all_lengths_come_in_order_over_a_good_path() -> None:
    two = Two(config=FAST)
    sent = [bundle(number, octets) for number, octets in enumerate((5, 100, 100, 1200, 1201, 50_000, 300))]
    two.a.machine.want(0.0, keep=True)
    two.b.machine.want(0.0, keep=True)
    for token, each in enumerate(sent):
        two.a.machine.offer(token, each, 0.0)
    two.until(20.0)
    assert two.b.got == sent
    assert two.a.sent == list(range(len(sent)))
    assert two.a.machine.is_idle
    assert two.b.reassembly.is_empty


@pytest.mark.parametrize("seed", range(6))
def test_a_bad_path_costs_bundles_but_corrupts_none(seed: int) -> None:
    """Issue: 5 % loss, duplication, reordering; what stays incomplete is dropped in time, and counted."""
    bad = Impairment(delay_s=0.05, jitter_s=0.02, loss=0.05, duplicate=0.05, reorder=0.2)
    two = Two(seed=seed, bad=bad, config=FAST, limits=Limits(timeout_s=5.0))
    chance = Random(seed)
    sent = [bundle(number, chance.randrange(5, 20_000)) for number in range(200)]
    for token, each in enumerate(sent):
        two.a.machine.offer(token, each, 0.0)
    two.until(60.0)
    counts = two.b.reassembly.counts
    assert sorted(two.a.sent) == list(range(200))
    assert set(two.b.got) <= set(sent)
    assert 60 < len(set(two.b.got)) < 200
    assert counts.timed_out == len(sent) - len(set(two.b.got)) or counts.timed_out > 0
    assert counts.late + counts.overlapping > 0
    assert two.b.held_most < 1 << 20
    assert two.b.reassembly.held_octets == 0


def test_bits_that_flip_make_no_conversation_fail() -> None:
    two = Two(bad=Impairment(corrupt=0.3, delay_s=0.01), config=FAST)
    for number in range(300):
        two.a.machine.offer(number, bundle(number, 3000), 0.0)
    two.until(100.0)
    assert two.b.machine.counts.datagrams_received >= 900
    assert two.b.reassembly.held_octets == 0


def test_what_is_no_bundle_of_version_7_goes_framed() -> None:
    """Generators of older tools send random octets."""
    two = Two(config=FAST)
    sent = [b"\x00" * 10, b"\x16" * 1200, b"\x06" * 5, b"x", bytes(1199)]
    for token, each in enumerate(sent):
        two.a.machine.offer(token, each, 0.0)
    two.until(10.0)
    assert sorted(two.b.got) == sorted(sent)


def test_garbage_and_bundles_of_version_6_are_counted() -> None:
    """Older agent: what it did not know ended the reading of a datagram, silently."""
    machine = alone()
    got = machine.receive([b"\x06abc", b"\x01", b"\xff", b"", b"\xa1", bundle(1, 20)], 1.0)
    assert got == [bundle(1, 20)]
    assert (machine.counts.bundles6, machine.counts.garbage) == (1, 4)
    assert machine.poll(1.0) == []


def test_padding_behind_transfers_is_nothing_and_anything_else_is_garbage() -> None:
    data = encode_extensions(Extensions(transfer=Transfer(7, bundle(1, 50))))
    machine = alone()
    assert machine.receive([data + bytes(9)], 0.0) == [bundle(1, 50)]
    other = encode_extensions(Extensions(transfer=Transfer(8, bundle(2, 50))))
    assert machine.receive([other + bundle(3, 20), other + b"\x06"], 0.0) == []
    assert machine.counts.garbage == 2
    probe = encode_extensions(Extensions(probe=Probe(1, 1, 0)))
    assert machine.receive([other + probe], 0.0) == []
    assert machine.receive([other], 0.0) == [bundle(2, 50)]
    assert machine.receive([other], 0.0) == []  # a copy


# ---- version 1 ---------------------------------------------------------------------------------------------------------


def test_a_peer_of_version_1_gets_bare_bundles_only() -> None:
    old = ConversationConfig(version=1, node_id=NODE_A, pace=Pace(fixed_octets_s=1e6))
    two = Two(config=old)
    two.a.machine.want(0.0, keep=True)
    assert two.a.machine.bundle_octets_most == 1200
    for token in range(3):
        two.a.machine.offer(token, bundle(token, 100), 0.0)
    two.until(40.0)
    assert two.b.got == [bundle(token, 100) for token in range(3)]
    assert {kind_of(data[0]) for data in two.a.datagrams} == {Kind.BUNDLE7, Kind.PADDING}
    assert two.a.datagrams.count(KEEPALIVE) == 2  # RFC 7122 §3.4: every 15 s in which nothing else went
    assert two.b.datagrams == []


def test_small_bundles_share_datagrams_once_the_peer_understands_that() -> None:
    two = Two(config=CONFIG_A._replace(pace=Pace(fixed_octets_s=1e7)), config_b=CONFIG_B)
    two.a.machine.want(0.0, keep=True)
    two.until(1.0)
    assert count(two.a.events, SpokeVersion2) == 1
    assert two.a.machine.bundle_octets_most is None
    before = two.a.machine.counts.datagrams_sent
    for token in range(100):
        two.a.machine.offer(token, bundle(token, 50), 1.0)
    two.until(2.0)
    assert len(two.b.got) == 100
    assert two.a.machine.counts.datagrams_sent - before < 30


# ---- presence --------------------------------------------------------------------------------------------------------


def test_both_learn_each_others_name_and_that_they_listen() -> None:
    two = Two(config=CONFIG_A, config_b=CONFIG_B)
    two.a.machine.want(0.0, keep=True)
    two.until(1.0)
    assert PeerNamed(NODE_A, is_secured=False) in two.b.events
    assert PeerListening(30_000, NODE_A) in two.b.events
    assert PeerNamed(NODE_B, is_secured=False) in two.a.events
    assert two.b.machine.listens_until == pytest.approx(90.0, abs=0.1)


def test_who_stops_saying_that_it_listens_is_silent_after_three_intervals() -> None:
    two = Two(config=CONFIG_A, config_b=CONFIG_B)
    two.a.machine.want(0.0)
    two.a.machine.announce(10_000)
    two.until(30.0)
    assert count(two.b.events, PeerSilent) == 0
    two.until(30.1)
    assert count(two.b.events, PeerSilent) == 1
    assert two.b.machine.listens_until is None


@pytest.mark.parametrize(("told_ms", "until_s"), [(0, 3.0), (1, 3.0), (1 << 63, 3 * 3600.0)])
def test_intervals_beyond_reason_are_brought_within(told_ms: int, until_s: float) -> None:
    machine = alone()
    machine.receive([encode_extensions(Extensions(listen_ms=told_ms))], 0.0)
    assert machine.listens_until == until_s


def test_multicast_is_heard_and_not_answered() -> None:
    machine = alone()
    told = Extensions(listen_ms=10_000, node_id=NODE_B, unknown=(99,))
    data = encode_extensions(told)
    asked = encode_extensions(Extensions(probe=Probe(1, 1, 0)))
    machine.receive([data, asked], 0.0, mark=ECT_1, is_multicast=True)
    assert PeerNamed(NODE_B, is_secured=False) in machine.events
    machine.handle_timeout(10.0)
    assert machine.poll(10.0) == []
    assert machine.feedback.counts == EcnCounts(0, 0, 0)


def test_an_unknown_key_is_answered_with_what_we_support() -> None:
    machine = alone()
    machine.receive([bytes.fromhex("a1186301") + bytes(60)], 0.0)
    (batch,) = machine.poll(0.0)
    assert maps(batch.datagrams) == [Extensions(support=(1, 7))]


# ---- strangers -------------------------------------------------------------------------------------------------------


def test_a_stranger_gets_no_more_octets_than_it_sent() -> None:
    """Whoever writes somebody else's address on its datagrams must not have us answer with more."""
    machine = alone(ConversationConfig(node_id=Eid.parse("dtn://a-node-with-quite-a-long-name/")))
    data = encode_extensions(Extensions(listen_ms=1000))
    now = 0.0
    for _ in range(100):
        now += 0.1
        machine.receive([data], now, mark=CE)
        machine.handle_timeout(now)
        machine.poll(now)
        assert machine.counts.octets_sent <= machine.counts.octets_received
    assert machine.counts.unanswered > 0
    machine.want(now)
    machine.receive([data], now)
    (batch,) = machine.poll(now)
    assert maps(batch.datagrams)[0].node_id is not None


def test_who_is_sent_bundles_is_answered_without_measure() -> None:
    """Else its counts would end when more went than came, and it would believe that nothing arrives."""
    machine = alone()
    machine.receive([bundle(0, 100)], 0.0, mark=ECT_1)
    for token in range(20):
        machine.offer(token, bundle(token, 1000), 0.0)
    machine.handle_timeout(0.0)
    (control, _) = machine.poll(0.0)
    assert maps(control.datagrams)[0].ecn_counts == EcnCounts(0, 1, 0)
    machine.receive([bundle(1, 100)], 1.0, mark=ECT_1)
    machine.handle_timeout(1.0)
    told = [each for batch in machine.poll(1.0) for each in maps(batch.datagrams)]
    assert told[0].ecn_counts == EcnCounts(0, 2, 0)


def test_answers_that_wait_are_bounded() -> None:
    machine = alone()
    for _ in range(10_000):
        machine.receive([encode_extensions(Extensions(listen_ms=1000)), bytes.fromhex("a1186301")], 0.0)
    assert sum(len(batch.datagrams) for batch in machine.poll(0.0)) <= 64


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tells", [False, True])
@pytest.mark.parametrize("octets", [1232, 1472, 8952])
def test_the_path_mtu_is_found_and_used(octets: int, tells: bool) -> None:
    """Older agent: found sizes were logged, never used, and EMSGSIZE ended all sending."""
    two = Two(config=CONFIG_A, config_b=CONFIG_B)
    two.octets, two.tells = octets, tells
    two.a.machine.want(0.0, keep=True)
    two.until(120.0)
    (found,) = [event for event in two.a.events if isinstance(event, PathMtuFound)]
    assert found.is_confirmed
    assert octets - 16 < found.datagram_octets <= octets
    two.a.machine.offer(1, bundle(1, 100_000), two.now)
    two.until(150.0)
    assert two.b.got == [bundle(1, 100_000)]
    assert max(map(len, two.a.datagrams[-20:])) > octets - 16 - 8


@pytest.mark.parametrize("tells", [False, True])
def test_a_path_that_shrinks_loses_little_and_is_used_again(tells: bool) -> None:
    two = Two(config=CONFIG_A, config_b=CONFIG_B)
    two.octets = 8952
    two.a.machine.want(0.0, keep=True)
    two.until(120.0)
    two.octets, two.tells = 1400, tells
    two.until(200.0)
    assert any(isinstance(event, PathMtuShrank) for event in two.a.events)
    assert two.a.events[-1] == PathMtuFound(two.a.machine.sizing.datagram_octets, True)
    for token in range(20):
        two.a.machine.offer(token, bundle(token, 20_000), two.now)
    two.until(230.0)
    assert two.b.got == [bundle(token, 20_000) for token in range(20)]


@pytest.mark.parametrize("pace", [Pace(), Pace(fixed_octets_s=1e6)])
def test_a_black_hole_is_seen_while_bundles_go_into_it(pace: Pace) -> None:
    """That nothing is counted any more is looked into at once, not at the next check in half a minute."""
    two = Two(config=CONFIG_A._replace(pace=pace), config_b=CONFIG_B)
    two.octets = 8952
    two.a.machine.want(0.0, keep=True)
    two.until(31.0)
    two.octets = 1400
    for token in range(100):
        two.a.machine.offer(token, bundle(token, 20_000), two.now)
        two.until(31.0 + (token + 1) * 0.2)
    assert 0 < len(two.b.got) < 100
    assert two.b.got[-1] == bundle(99, 20_000)
    assert bundle(60, 20_000) in two.b.got
    assert any(isinstance(event, PathMtuShrank) for event in two.a.events)


@pytest.mark.parametrize("octets", [100, 600, 1000])
def test_an_interface_below_every_recommendation_carries_bundles(octets: int) -> None:
    """EMSGSIZE for the first datagram of all: the same bundles go in shorter ones."""
    two = Two(config=CONFIG_A._replace(pace=Pace(fixed_octets_s=1e6)), config_b=CONFIG_B)
    two.octets, two.tells = octets, True
    sent = [bundle(token, 50 + 700 * token) for token in range(8)]
    for token, each in enumerate(sent):
        two.a.machine.offer(token, each, 0.0)
    two.until(5.0)
    assert sorted(two.b.got) == sorted(sent)


def test_a_router_cannot_make_sizes_shorter_than_the_base() -> None:
    two = Two(config=CONFIG_A, config_b=CONFIG_B)
    two.octets = 1472
    two.a.machine.want(0.0, keep=True)
    two.until(120.0)
    two.a.machine.path_too_long(200, two.now)
    assert two.a.machine.sizing.datagram_octets > 1400
    two.a.machine.path_too_long(1301, two.now)
    two.until(160.0)
    assert 1200 <= two.a.machine.sizing.datagram_octets <= 1300


def test_a_search_that_was_asked_for_tells_its_result_without_an_answer_too() -> None:
    machine = alone()
    machine.search_path_mtu(0.0, 10)
    now = 0.0
    while not machine.events:
        at = machine.next_timeout()
        assert at is not None
        now = max(now, at)
        machine.handle_timeout(now)
        machine.poll(now)
    assert machine.events == [PathMtuFound(1200, is_confirmed=False)]
    assert now < 10.0


# ---- DTLS ------------------------------------------------------------------------------------------------------------

RECORD = b"\x16\xfe\xfd" + bytes(20)


def test_the_client_says_so_first_and_then_nothing_until_the_handshake_is_over() -> None:
    machine = alone(CONFIG_A._replace(dtls=DtlsUse.REQUIRED))
    machine.want(0.0, keep=True)
    machine.offer(1, bundle(1, 100), 0.0)
    assert [type(event) for event in machine.events] == [StartDtls]
    (batch,) = machine.poll(0.0)
    assert batch.datagrams == [b"\xa1\x05\xf6"]
    machine.receive([encode_extensions(Extensions(listen_ms=1000))], 0.1)
    machine.handle_timeout(1.0)
    assert machine.poll(1.0) == []
    assert machine.counts.plain_refused == 1
    machine.dtls_done(b"certificate", 1.0, 37)
    control, data = machine.poll(1.0)
    assert maps(control.datagrams)[0].node_id == NODE_A
    assert data.tokens == [1]
    assert machine.sizing.datagram_octets == 1200 - 37
    assert machine.receive([bundle(2, 50)], 1.0) == []  # plain text
    assert machine.receive([bundle(2, 50)], 1.0, is_secured=True) == [bundle(2, 50)]


def test_the_peer_may_begin_and_records_without_a_session_mean_nothing() -> None:
    machine = alone(CONFIG_A._replace(dtls=DtlsUse.OPTIONAL))
    machine.receive([b"\xa1\x05\xf6", RECORD, b"\x17" + RECORD[1:]], 0.0)
    assert StartDtls not in map(type, machine.events)
    assert machine.counts.plain_refused == 2
    machine.dtls_begun(0.0)
    machine.offer(1, bundle(1, 100), 0.0)
    assert machine.poll(0.0) == []
    machine.handle_timeout(30.0)  # whatever became of its driver
    assert machine.state is State.FAILED
    assert isinstance(machine.events[-1], DtlsFailed)
    assert machine.next_timeout() is None


def test_a_peer_that_does_not_answer_is_spoken_to_plainly_where_that_may_be() -> None:
    machine = alone(CONFIG_A._replace(dtls=DtlsUse.OPTIONAL))
    machine.want(0.0)
    machine.offer(1, bundle(1, 100), 0.0)
    machine.poll(0.0)
    machine.dtls_unanswered()
    assert [type(event) for event in machine.events] == [StartDtls, DtlsUnanswered]
    (batch,) = machine.poll(5.0)
    assert batch.tokens == [1]


def test_a_peer_that_restarted_begins_its_numbers_again() -> None:
    machine = alone(CONFIG_A._replace(dtls=DtlsUse.REQUIRED))
    machine.dtls_done(None, 0.0, 37)
    first = encode_extensions(Extensions(transfer=Transfer(0, bundle(1, 50))))
    assert machine.receive([first], 0.0, is_secured=True) == [bundle(1, 50)]
    assert machine.receive([first], 0.0, is_secured=True) == []
    machine.dtls_done(None, 1.0, 37, is_renewed=True)
    assert machine.events[-1] == DtlsDone(is_renewed=True)
    assert machine.receive([first], 1.0, is_secured=True) == [bundle(1, 50)]


def test_a_name_told_plainly_is_told_again_inside() -> None:
    machine = alone(CONFIG_A._replace(dtls=DtlsUse.OPTIONAL))
    told = encode_extensions(Extensions(node_id=NODE_B))
    machine.receive([told], 0.0)
    machine.dtls_begun(0.0)
    machine.dtls_done(None, 0.0, 37)
    machine.receive([told], 0.0, is_secured=True)
    named = [event.is_secured for event in machine.events if isinstance(event, PeerNamed)]
    assert named == [False, True]


def test_a_name_that_the_certificate_tells_is_not_told_again() -> None:
    machine = alone(CONFIG_A._replace(dtls=DtlsUse.REQUIRED))
    machine.dtls_done(None, 0.0, 37, names_itself=False)
    (batch,) = machine.poll(0.0)
    assert [each.node_id for each in maps(batch.datagrams)] == [None]


def test_what_waits_is_cut_anew_for_records() -> None:
    machine = alone(CONFIG_A._replace(dtls=DtlsUse.OPTIONAL))
    machine.offer(1, bundle(1, 50_000), 0.0)
    (first,) = machine.poll(0.0)
    machine.dtls_begun(0.0)
    machine.dtls_done(None, 0.0, 37)
    batches = [batch for _ in range(100) for batch in machine.poll(1000.0 * _)]
    assert max(len(datagram) for batch in batches for datagram in batch.datagrams) <= 1200 - 37
    assert [token for batch in batches for token in batch.tokens] == [1] or first.tokens == [1]


@pytest.mark.parametrize(("path", "record"), [(1200, 1163), (16_421, 16_384), (16_422, 8174), (65_507, 16_339)])
def test_long_datagrams_hold_several_records(path: int, record: int) -> None:
    machine = alone(CONFIG_A._replace(datagram_octets=path))
    machine.dtls_done(None, 0.0, 37)
    assert machine.sizing.datagram_octets == record
    assert machine.sizing.path_octets == path


# ---- congestion --------------------------------------------------------------------------------------------------------


def test_marks_are_sent_counted_and_told_and_the_telling_ends() -> None:
    two = Two(config=CONFIG_A, config_b=CONFIG_B)
    two.a.machine.offer(0, bundle(0, 1000), 0.0)
    two.until(0.021)
    assert two.b.machine.feedback.counts == EcnCounts(0, 1, 0)
    two.until(60.0)
    told = [each for each in maps(two.b.datagrams) if each.ecn_counts is not None]
    assert 2 <= len(told) <= 4


def test_nothing_is_marked_or_told_where_that_is_not_wanted() -> None:
    config = CONFIG_A._replace(marks_ecn=False, tells_ecn=False)
    machine = alone(config)
    machine.offer(0, bundle(0, 1000), 0.0)
    (batch,) = machine.poll(0.0)
    assert batch.mark == NOT_ECT
    machine.receive([bundle(0, 100)], 0.0, mark=CE)
    assert machine.next_timeout() is None
