"""A node over a tcpcl-agent, in virtual time: contacts become paths, and whatever the agent does, no unit is forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tumpline.machines.dbus_cl import effects as fx
from tumpline.machines.dbus_cl.contact import TERMINATE_S
from tumpline.machines.dbus_cl.intake import TRIES_MOST, WAITING_MOST
from tumpline.machines.dbus_cl.tcpcl import AGENT_PATH, PARENT_PATH
from tumpline.machines.effects import RefuseReason
from tumpline.testing.agent_user import (
    CONTACT_0,
    CONTACT_1,
    GONE,
    OUR_CONTACT,
    PEER,
    UNKNOWN_METHOD,
    Script,
    connected,
)
from tumpline.wire.dbus import Variant
from tumpline.wire.eid import Eid

MIB = 1 << 20
FAILED = fx.Failure("org.freedesktop.DBus.Error.Failed", "it broke")


# ---- becoming a path -------------------------------------------------------------------------------------------------


def test_a_contact_that_is_established_becomes_a_path() -> None:
    script = Script()
    script.attach(CONTACT_0)
    script.establish(peer_transfer_mru=5_000_000, peer_segment_mru=1000)
    (raised,) = script.of(fx.PathRaised)
    info = raised.info
    assert (info.peer, info.authenticated, info.mru_octets, info.segment_octets) == (PEER, True, 5_000_000, 1000)
    assert (info.link, info.address, info.security, info.outbound) == ("cl", "Contact0", "TLS", False)


@pytest.mark.parametrize("proof", [None, False, True, 1, "dtn://other/", "", "nonsense"])
def test_a_claim_without_proof_does_not_count(proof: object) -> None:
    script = Script()
    script.attach(CONTACT_0)
    script.establish(authn_nodeid=proof)
    (raised,) = script.of(fx.PathRaised)
    assert (raised.info.peer, raised.info.authenticated) == (PEER, False)


def test_a_claim_counts_where_no_proof_is_asked_for() -> None:
    script = Script(trusting=True)
    script.attach(CONTACT_0)
    script.establish(authn_nodeid=None)
    assert script.of(fx.PathRaised)[0].info.authenticated


@pytest.mark.parametrize("claim", ["", "no eid", "dtn:none", 7])
def test_a_peer_without_a_node_id_is_nobody(claim: object) -> None:
    script = Script(trusting=True)
    script.attach(CONTACT_0)
    script.establish(peer=claim)
    assert script.of(fx.PathRaised)[0].info.peer is None


def test_a_number_cut_down_to_31_bits_bounds_nothing() -> None:
    script = Script()
    script.attach(CONTACT_0)
    script.establish(peer_transfer_mru=(1 << 31) - 1)
    assert script.of(fx.PathRaised)[0].info.mru_octets == 1 << 40


def test_what_fits_no_message_is_not_taken_when_files_cannot_cross() -> None:
    script = Script()
    script.attach(CONTACT_0, same_user=False)
    script.establish()
    assert script.of(fx.PathRaised)[0].info.mru_octets == fx.ARRAY_OCTETS_MOST


def test_a_contact_that_opens_later_becomes_a_path_when_it_is_established() -> None:
    script = Script()
    script.attach()
    script.signal(AGENT_PATH, "connection_opened", CONTACT_0)
    script.reply("get_session_state", "connecting", path=CONTACT_0)
    script.signal(CONTACT_0, "session_state_changed", "session-negotiating")
    assert not script.of(fx.PathRaised)
    script.signal(CONTACT_0, "session_state_changed", "established")
    script.parameters(CONTACT_0)
    assert len(script.of(fx.PathRaised)) == 1


def test_a_contact_that_never_is_established_makes_no_path() -> None:
    script = Script()
    script.attach()
    script.signal(AGENT_PATH, "connection_opened", CONTACT_0)
    script.signal(AGENT_PATH, "connection_closed", CONTACT_0)
    script.run(60)
    assert not script.of(fx.PathRaised)
    assert not script.of(fx.PathLowered)


# ---- dialling --------------------------------------------------------------------------------------------------------


def test_an_address_is_dialled_once_the_agent_is_there() -> None:
    script = Script()
    script.user.connect("peer.example:4556", "peer.example", 4556, PEER, script.now)
    assert not script.of(fx.Call)
    script.attach()
    call = script.reply("connect", CONTACT_0)
    assert (call.signature, call.arguments) == ("sq", ("peer.example", 4556))
    script.establish()
    info = script.of(fx.PathRaised)[0].info
    assert (info.address, info.outbound) == ("peer.example:4556", True)


def test_nobody_is_dialled_with_whom_there_is_a_contact() -> None:
    script = Script()
    script.user.connect("peer.example:4556", "peer.example", 4556, PEER, script.now)
    script.attach(CONTACT_0)
    script.establish()
    script.run(300)
    assert not [call for call in script.of(fx.Call) if call.member == "connect"]
    script.signal(AGENT_PATH, "connection_closed", CONTACT_0)
    script.run(1)
    script.find("connect")


def test_failed_attempts_come_ever_later() -> None:
    script = Script(retry_s_first=1.0, retry_s_max=8.0)
    script.user.connect("x:1", "x", 1, None, script.now)
    script.attach()
    times = []
    for _ in range(6):
        script.fail("connect", FAILED)
        before = script.now
        while not [call for call in script.calls if isinstance(call, fx.Call) and call.member == "connect"]:
            script.run(0.05)
        times.append(round(script.now - before, 2))
    assert times == pytest.approx([0.75, 1.5, 3, 6, 6, 6], abs=0.06)
    assert [each.name for each in script.of(fx.Noticed)] == ["connection_failed"] * 6


def test_somebody_else_at_the_address_is_not_our_peer() -> None:
    script = Script()
    script.user.connect("x:1", "x", 1, PEER, script.now)
    script.attach()
    script.reply("connect", CONTACT_0)
    script.reply("get_session_state", "established", path=CONTACT_0)
    script.reply("is_secure", True)
    script.reply("get_session_parameters", {"peer_nodeid": Variant("s", "dtn://other/")})
    assert not script.of(fx.PathRaised)
    script.find("terminate")
    assert "dtn://other/, not dtn://peer/" in script.of(fx.Noticed)[0].fields["reason"]


def test_a_contact_whose_name_comes_after_its_establishment_is_known_again() -> None:
    """Signals may overtake the answer to `connect`: what was dialled is dialled once."""
    script = Script()
    script.user.connect("x:1", "x", 1, None, script.now)
    script.attach()
    script.signal(AGENT_PATH, "connection_opened", CONTACT_0)
    script.establish()
    script.reply("connect", CONTACT_0)
    assert [each.info.outbound for each in script.of(fx.PathRaised)] == [False, True]
    script.user.disconnect("x:1", None, "enough", script.now)
    assert script.find("terminate").path == CONTACT_0


def test_disconnect_finishes_what_the_agent_has_and_loses_what_it_has_not() -> None:
    script = Script(units_most=1)
    script.attach(CONTACT_0)
    path = script.establish()
    script.offer(path, 10, 10)
    script.sent()
    script.user.disconnect(None, path, "the contact is over", script.now)
    assert [each.seqs for each in script.of(fx.UnitsLost)] == [[2]]
    script.signal(CONTACT_0, "send_bundle_finished", "1", 10, "success")
    assert [each.seqs for each in script.of(fx.UnitsAcked)] == [[1]]
    script.signal(AGENT_PATH, "connection_closed", CONTACT_0)
    assert script.of(fx.PathLowered) == [fx.PathLowered(path, "the contact is over")]


def test_a_contact_that_does_not_end_is_closed() -> None:
    script, path = connected()
    script.offer(path, 10)
    script.sent()
    script.user.disconnect(None, path, "over", script.now)
    script.run(TERMINATE_S + 1)
    script.find("close")
    assert [each.seqs for each in script.of(fx.UnitsLost)] == [[1]]
    assert script.user.describe()["contacts"] == []


# ---- units out -------------------------------------------------------------------------------------------------------


def test_units_end_as_the_agent_says() -> None:
    script, path = connected()
    script.offer(path, *[10] * 7)
    script.sent()
    results = ["success", "session terminating", "unacknowledged", "no resources", "NOT_ACCEPTABLE", "completed", "???"]
    for number, result in enumerate(results, 1):
        script.signal(CONTACT_0, "send_bundle_started", str(number), 10)
        script.signal(CONTACT_0, "send_bundle_finished", str(number), 10, result)
    assert script.of(fx.UnitsAcked) == [fx.UnitsAcked(path, [1])]
    assert [each.seqs for each in script.of(fx.UnitsLost)] == [[2], [3]]
    refused = [(each.seq, each.reason) for each in script.of(fx.UnitRefused)]
    assert refused == [
        (4, RefuseReason.NO_RESOURCES),
        (5, RefuseReason.NOT_ACCEPTABLE),
        (6, RefuseReason.COMPLETED),
        (7, RefuseReason.RETRANSMIT),
    ]


def test_a_result_may_come_before_the_number_it_belongs_to() -> None:
    script, path = connected()
    script.offer(path, 10)
    script.signal(CONTACT_0, "send_bundle_finished", "1", 10, "success")
    script.sent()
    assert [each.seqs for each in script.of(fx.UnitsAcked)] == [[1]]


def test_transfers_of_others_are_nothing_to_us() -> None:
    script, path = connected()
    script.signal(CONTACT_0, "send_bundle_finished", "1", 10, "success")  # a person's, before ours
    script.offer(path, 10)
    script.sent(lambda number: str(number + 1))
    script.signal(CONTACT_0, "send_bundle_intermediate", "1", 5)
    script.signal(CONTACT_0, "send_bundle_finished", "1", 10, "success")
    script.signal("/org/ietf/dtn/tcpcl/Contact9", "send_bundle_finished", "2", 10, "success")
    assert not script.of(fx.UnitsAcked)
    script.signal(CONTACT_0, "send_bundle_intermediate", "2", 5)
    assert script.of(fx.UnitProgressed) == [fx.UnitProgressed(path, 1, 5)]


def test_no_more_is_handed_over_than_is_allowed_at_once() -> None:
    script, path = connected(units_most=4, octets_most=100)
    script.offer(path, 40, 40, 40, 1, 1, 1, 500, 1)
    assert [send.seq for send in script.sent(lambda n: str(n))] == [1, 2]
    script.signal(CONTACT_0, "send_bundle_finished", "1", 40, "success")
    assert [send.seq for send in script.sent(lambda n: str(n + 2))] == [3, 4, 5]
    for number in ("2", "3", "4", "5"):
        script.signal(CONTACT_0, "send_bundle_finished", number, 1, "success")
    assert [send.seq for send in script.sent(lambda n: str(n + 5))] == [6]
    script.signal(CONTACT_0, "send_bundle_finished", "6", 1, "success")
    assert [send.seq for send in script.sent(lambda n: str(n + 6))] == [7]  # alone: it is longer than all that may be


def test_large_units_cross_as_files_or_descriptors() -> None:
    older, path = connected()
    older.offer(path, fx.DATA_OCTETS_MOST, fx.DATA_OCTETS_MOST + 1)
    assert [send.way for send in older.sent()] == [fx.Way.DATA]
    older.signal(CONTACT_0, "send_bundle_finished", "1", 1, "success")
    assert [send.way for send in older.sent()] == [fx.Way.FILE]
    ours = Script()
    ours.attach(CONTACT_0, same_user=False, contact=OUR_CONTACT)
    path = ours.establish()
    ours.offer(path, fx.DATA_OCTETS_MOST + 1)
    (send,) = ours.of(fx.Send)
    assert send.way is fx.Way.FD
    ours.user.failed(send.token, UNKNOWN_METHOD, ours.now)  # it was another one that described itself
    assert [(send.seq, send.way) for send in ours.of(fx.Send)] == [(1, fx.Way.DATA)]


def test_a_unit_that_the_agent_does_not_take_holds_up_nobody() -> None:
    script, path = connected(units_most=1)
    script.offer(path, 10, 10)
    (send,) = script.of(fx.Send)
    script.user.failed(send.token, FAILED, script.now)
    assert script.of(fx.UnitRefused) == [fx.UnitRefused(path, 1, RefuseReason.NO_RESOURCES)]
    assert [send.seq for send in script.sent()] == [2]


def test_cancelled_before_it_is_handed_over() -> None:
    script, path = connected(units_most=1)
    script.offer(path, 10, 10)
    for seq in (1, 2, 3):
        script.user.cancel(path, seq)
    script.user.cancel(99, 1)
    assert [each.seqs for each in script.of(fx.UnitsLost)] == [[2]]


def test_units_for_a_path_that_is_down_are_lost() -> None:
    script, path = connected()
    script.signal(AGENT_PATH, "connection_closed", CONTACT_0)
    script.offer(path, 10)
    assert [each.seqs for each in script.of(fx.UnitsLost)] == [[1]]


def test_queued_units_are_not_sent_again_by_themselves() -> None:
    """The older node never clears what it has queued for a peer, and sends it again with each new session."""
    script, path = connected(units_most=1)
    script.offer(path, 10, 20)
    script.sent()
    script.signal(AGENT_PATH, "connection_closed", CONTACT_0)
    assert [each.seqs for each in script.of(fx.UnitsLost)] == [[1, 2]]
    script.signal(AGENT_PATH, "connection_opened", CONTACT_1)
    script.establish(CONTACT_1)
    script.run(60)
    assert not script.of(fx.Send)


def test_a_contact_that_gives_no_sign_of_life_is_closed() -> None:
    """The older agent, once a write fails, says no more of a transfer; a refused or empty one waits for ever (§4)."""
    script, path = connected(stall_s=30.0)
    script.offer(path, 10, 10)
    script.sent()
    script.run(29)
    script.signal(CONTACT_0, "send_bundle_finished", "1", 10, "success")
    script.run(29)
    assert not script.of(fx.UnitsLost)
    script.run(2)
    assert [each.seqs for each in script.of(fx.UnitsLost)] == [[2]]
    script.find("close")
    assert "no" not in script.user.describe()["contacts"]


def test_a_contact_without_anything_to_send_may_be_silent() -> None:
    script, path = connected(stall_s=30.0)
    script.offer(path, 10)
    script.sent()
    script.signal(CONTACT_0, "send_bundle_finished", "1", 10, "success")
    script.run(1000)
    script.offer(path, 10, first=2)
    script.sent(lambda n: "2")
    script.run(29)
    assert not script.of(fx.PathLowered)


def is_busy(script: Script) -> bool:
    """Whether a graceful end would wait."""
    return script.user.is_busy


# ---- bundles in ------------------------------------------------------------------------------------------------------


def take(script: Script, octets: int = 10) -> list[fx.Take]:
    """What the machine fetches comes."""
    takes: list[fx.Take] = script.of(fx.Take)
    for each in takes:
        script.user.popped(each.token, octets)
    script.run()
    return takes


def test_what_has_come_is_fetched_shown_and_forgotten() -> None:
    script, path = connected()
    script.signal(CONTACT_0, "recv_bundle_started", "5", Variant("s", ""))
    script.signal(CONTACT_0, "recv_bundle_intermediate", "5", 4)
    script.signal(CONTACT_0, "recv_bundle_finished", "5", 10, "success")
    (taken,) = take(script)
    assert (taken.id, taken.octets, taken.over, taken.way) == ("5", 10, path, fx.Way.DATA)
    (shown,) = script.of(fx.Present)
    assert shown == fx.Present(taken.token, path)
    script.user.acknowledge([shown.token], script.now)
    assert script.of(fx.Discard) == [fx.Discard(shown.token)]
    assert not is_busy(script)


def test_what_did_not_come_whole_is_not_fetched() -> None:
    script, _ = connected()
    script.signal(CONTACT_0, "recv_bundle_finished", "5", 10, "unacknowledged")
    assert not script.of(fx.Take)


def test_what_waits_with_the_agent_is_fetched_when_we_come() -> None:
    script = Script()
    script.attach(CONTACT_0)
    script.establish(queue=("1", "2"))
    assert [(each.id, each.octets, each.way) for each in take(script)] == [
        ("1", -1, fx.Way.FILE),
        ("2", -1, fx.Way.FILE),
    ]


def test_what_comes_before_there_is_a_path_is_fetched_once() -> None:
    script = Script()
    script.attach()
    script.signal(AGENT_PATH, "connection_opened", CONTACT_0)
    script.signal(CONTACT_0, "recv_bundle_finished", "1", 10, "success")
    script.establish(queue=("1",))
    assert [each.id for each in take(script)] == ["1"]


def test_no_more_is_fetched_than_there_is_room_for() -> None:
    script, _ = connected(takes_most=3)
    for number in range(10):
        script.signal(CONTACT_0, "recv_bundle_finished", str(number), 10, "success")
    assert [each.id for each in take(script)] == ["0", "1", "2"]
    assert not script.of(fx.Take)
    script.user.acknowledge([script.of(fx.Present)[0].token], script.now)
    assert [each.id for each in take(script)] == ["3"]


def test_memory_is_shared_by_all_contacts() -> None:
    script = Script(take_octets_most=25 * MIB)
    script.attach(CONTACT_0, CONTACT_1)
    script.establish(CONTACT_0)
    script.establish(CONTACT_1, peer="dtn://other/")
    for contact in (CONTACT_0, CONTACT_1):
        for number in ("1", "2"):
            script.signal(contact, "recv_bundle_finished", number, 10 * MIB, "success")
    assert [each.path for each in take(script, 10 * MIB)] == [CONTACT_0, CONTACT_0]
    for shown in script.of(fx.Present):
        script.user.acknowledge([shown.token], script.now)
    assert [each.path for each in take(script, 10 * MIB)] == [CONTACT_1, CONTACT_1]


def test_without_room_it_stays_with_the_agent_until_there_is() -> None:
    script, _ = connected(retry_s_first=1.0)
    script.signal(CONTACT_0, "recv_bundle_finished", "1", 200_000, "success")
    (first,) = script.of(fx.Take)
    script.user.no_room(first.token, script.now)
    assert not script.of(fx.Take)
    script.run(1.1)
    assert [each.id for each in take(script, 200_000)] == ["1"]


def test_what_the_node_could_not_keep_is_shown_again() -> None:
    """The older agent has told the sender that it came, and forgotten it: it must not be lost here."""
    script, _ = connected(retry_s_first=1.0)
    script.signal(CONTACT_0, "recv_bundle_finished", "1", 10, "success")
    take(script)
    (shown,) = script.of(fx.Present)
    for _ in range(3):
        script.user.refuse(shown.token, RefuseReason.NO_RESOURCES, script.now)
        script.signal(CONTACT_0, "recv_bundle_finished", f"x{_}", 10, "success")
        assert not script.of(fx.Take)
        script.run(10)
        assert script.of(fx.Present) == [shown]
        take(script)
        for other in script.of(fx.Present):
            script.user.acknowledge([other.token], script.now)
    script.user.acknowledge([shown.token], script.now)
    assert shown.token in [each.token for each in script.of(fx.Discard)]


def test_what_is_no_bundle_is_not_shown_again() -> None:
    script, _ = connected()
    script.signal(CONTACT_0, "recv_bundle_finished", "1", 10, "success")
    take(script)
    (shown,) = script.of(fx.Present)
    script.user.refuse(shown.token, RefuseReason.NOT_ACCEPTABLE, script.now)
    assert script.of(fx.Discard) == [fx.Discard(shown.token)]


def test_the_path_stays_until_what_was_fetched_is_answered() -> None:
    script, path = connected()
    script.signal(CONTACT_0, "recv_bundle_finished", "1", 10, "success")
    (taken,) = script.of(fx.Take)
    script.signal(AGENT_PATH, "connection_closed", CONTACT_0)
    assert [each.info.kinds for each in script.of(fx.PathRaised)] == [frozenset()]
    script.user.popped(taken.token, 10)
    (shown,) = script.of(fx.Present)
    assert not script.of(fx.PathLowered)
    script.user.acknowledge([shown.token], script.now)
    assert script.of(fx.PathLowered) == [fx.PathLowered(path, "the contact is closed")]


def test_a_bundle_that_cannot_be_fetched_is_given_up() -> None:
    script, _ = connected()
    script.signal(CONTACT_0, "recv_bundle_finished", "1", 10, "success")
    for _ in range(TRIES_MOST):
        (taken,) = script.of(fx.Take)
        script.user.failed(taken.token, FAILED, script.now)
    assert not script.of(fx.Take)
    assert [each.name for each in script.of(fx.Noticed)] == ["bundle_not_fetched"]


def test_of_very_many_that_wait_none_is_forgotten() -> None:
    script, _ = connected(takes_most=100)
    for number in range(WAITING_MOST + 200):
        script.signal(CONTACT_0, "recv_bundle_finished", str(number), 1, "success")
    seen = []
    while takes := take(script):
        seen += [each.id for each in takes]
        script.user.acknowledge([each.token for each in script.of(fx.Present)], script.now)
    assert len(seen) == WAITING_MOST + 100
    script.reply("recv_bundle_get_queue", [str(number) for number in range(WAITING_MOST + 100, WAITING_MOST + 200)])
    assert len(take(script)) == 100


def test_our_agent_is_told_what_became_of_each() -> None:
    script = Script()
    script.attach(CONTACT_0, contact=OUR_CONTACT)
    script.establish()
    for number in ("1", "2", "3"):
        script.signal(CONTACT_0, "recv_bundle_finished", number, 10, "success")
    take(script)
    one, two, three = script.of(fx.Present)
    script.user.acknowledge([one.token], script.now)
    script.user.refuse(two.token, RefuseReason.NO_RESOURCES, script.now)
    script.user.refuse(three.token, RefuseReason.NOT_ACCEPTABLE, script.now)
    assert script.find("recv_bundle_accept").arguments == ("1",)
    assert script.find("recv_bundle_refuse").arguments == ("2", "no resources")
    assert script.find("recv_bundle_refuse").arguments == ("3", "not acceptable")


# ---- the agent goes and comes ----------------------------------------------------------------------------------------


def test_when_the_agent_goes_everything_under_way_is_lost_and_the_path_is_down() -> None:
    script, path = connected(units_most=2)
    script.offer(path, 10, 10, 10)
    script.sent()
    script.detach()
    (lost,) = script.of(fx.UnitsLost)
    assert sorted(lost.seqs) == [1, 2, 3]
    assert script.of(fx.PathLowered) == [fx.PathLowered(path, "the agent has left the bus")]


def test_when_it_comes_back_it_is_used_again() -> None:
    script = Script()
    script.user.connect("x:1", "x", 1, PEER, script.now)
    for _ in range(3):
        script.attach()
        script.reply("connect", CONTACT_0)  # each process counts its contacts from 0
        path = script.establish()
        script.offer(path, 10)
        script.sent()
        script.signal(CONTACT_0, "send_bundle_finished", "1", 10, "success")
        assert script.of(fx.UnitsAcked) == [fx.UnitsAcked(path, [1])]
        script.detach()
        script.run(100)
        assert [each.path for each in script.of(fx.PathLowered)] == [path]


def test_what_was_fetched_before_the_agent_went_is_still_kept() -> None:
    script, path = connected()
    script.signal(CONTACT_0, "recv_bundle_finished", "1", 10, "success")
    script.signal(CONTACT_0, "recv_bundle_finished", "2", 10, "success")
    one, two = script.of(fx.Take)
    script.user.popped(one.token, 10)
    script.detach()
    script.user.failed(two.token, GONE, script.now)
    (shown,) = script.of(fx.Present)
    script.attach(CONTACT_0)  # the same name: another contact
    script.establish()
    script.user.refuse(shown.token, RefuseReason.NO_RESOURCES, script.now)
    script.run(30)
    assert script.of(fx.Present) == [shown]
    script.user.acknowledge([shown.token], script.now)
    assert path in [each.path for each in script.of(fx.PathLowered)]


def test_closed_contacts_in_which_something_waits_are_found() -> None:
    script = Script()
    script.user.attached(True, script.now)
    script.reply("Introspect", "<node/>", path=AGENT_PATH)
    xml = '<node><node name="Agent"/><node name="Contact0"/></node>'
    script.reply("Introspect", xml, path=PARENT_PATH)
    script.reply("get_connections", [])
    script.reply("get_session_state", "ending")
    script.reply("get_session_parameters", {"peer_nodeid": Variant("s", "dtn://peer/")})
    script.reply("recv_bundle_get_queue", ["7"])
    assert [each.info.kinds for each in script.of(fx.PathRaised)] == [frozenset()]
    assert [each.id for each in take(script)] == ["7"]
    script.user.acknowledge([script.of(fx.Present)[0].token], script.now)
    script.run(TERMINATE_S + 1)
    assert len(script.of(fx.PathLowered)) == 1
    assert not script.user.describe()["contacts"]


def test_an_agent_that_answers_nothing_harms_nobody() -> None:
    script = Script()
    script.user.connect("x:1", "x", 1, None, script.now)
    script.user.attached(False, script.now)
    script.fail("Introspect", FAILED)
    script.fail("Introspect", FAILED)
    script.fail("get_connections", FAILED)
    script.reply("connect", CONTACT_0)
    script.fail("get_session_state", FAILED)
    script.run(1)
    script.find("connect")
    assert not script.of(fx.PathRaised)


# ---- stopping --------------------------------------------------------------------------------------------------------


def test_at_the_end_only_what_we_dialled_is_ended() -> None:
    script = Script()
    script.user.connect("x:1", "x", 1, None, script.now)
    script.attach(CONTACT_1)
    theirs = script.establish(CONTACT_1, peer="dtn://other/")
    script.reply("connect", CONTACT_0)
    ours = script.establish(CONTACT_0)
    script.offer(ours, 10)
    script.sent()
    script.signal(CONTACT_1, "recv_bundle_finished", "1", 10, "success")
    script.user.wind_down("the link is stopped", script.now)
    assert is_busy(script)
    assert script.find("terminate").path == CONTACT_0
    assert not [call for call in script.calls if isinstance(call, fx.Call)]
    script.signal(CONTACT_0, "send_bundle_finished", "1", 10, "success")
    take(script)
    script.user.acknowledge([script.of(fx.Present)[0].token], script.now)
    assert not is_busy(script)
    script.user.drop_all("the link is stopped", script.now)
    assert {each.path for each in script.of(fx.PathLowered)} == {ours, theirs}
    assert script.of(fx.UnitsAcked) == [fx.UnitsAcked(ours, [1])]


def test_a_hard_end_loses_what_is_under_way_once() -> None:
    script, path = connected(units_most=1)
    script.offer(path, 10, 10)
    script.sent()
    script.signal(CONTACT_0, "recv_bundle_finished", "1", 10, "success")
    script.of(fx.Take)
    script.signal(CONTACT_0, "recv_bundle_finished", "2", 200_000, "success")
    (large,) = script.of(fx.Take)
    script.user.no_room(large.token, script.now)
    script.user.drop_all("stopped", script.now)
    assert [sorted(each.seqs) for each in script.of(fx.UnitsLost)] == [[1, 2]]
    assert script.of(fx.PathLowered) == [fx.PathLowered(path, "stopped")]


def test_node_ids_compare_as_nodes() -> None:
    script = Script()
    script.user.connect("x:1", "x", 1, Eid.parse("dtn://peer/service"), script.now)
    script.attach()
    script.reply("connect", CONTACT_0)
    script.establish()
    assert script.of(fx.PathRaised)[0].info.peer == PEER


def test_what_a_closed_contact_held_goes_with_its_agent() -> None:
    script, path = connected(retry_s_first=1.0)
    script.signal(CONTACT_0, "recv_bundle_finished", "1", 200_000, "success")
    (first,) = script.of(fx.Take)
    script.user.no_room(first.token, script.now)
    script.signal(AGENT_PATH, "connection_closed", CONTACT_0)
    assert not script.of(fx.PathLowered)
    script.detach()
    assert [each.path for each in script.of(fx.PathLowered)] == [path]
    script.attach(CONTACT_0)
    script.run(60)
    assert not script.of(fx.Take)


def named(number: int) -> Callable[[int], str]:
    """The agent calls the next one so."""
    return lambda _: str(number)


def test_nothing_is_remembered_of_what_has_ended() -> None:
    script, path = connected()
    for number in range(1, 200):
        script.offer(path, 10, first=number)
        script.sent(named(number))
        script.signal(CONTACT_0, "send_bundle_finished", str(number), 10, "success")
        script.signal(CONTACT_0, "recv_bundle_finished", str(number), 10, "success")
        take(script)
        script.user.acknowledge([each.token for each in script.of(fx.Present)], script.now)
    core = script.user._core
    assert core.calls == 0
    assert not core.takers
    assert core.taken_octets == 0
