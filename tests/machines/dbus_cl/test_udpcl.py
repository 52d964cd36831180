"""A node over a udpcl-agent, in virtual time: addresses are paths, and what comes says nothing of who sent it."""

from __future__ import annotations

from typing import Any

import pytest

from tumpline.machines.dbus_cl import effects as fx
from tumpline.machines.dbus_cl.udpcl import AGENT_PATH, POLLED_MOST, UdpclUser
from tumpline.machines.effects import RefuseReason
from tumpline.testing.agent_user import GONE, PEER, Script
from tumpline.wire.dbus import Variant
from tumpline.wire.eid import Eid

OLDER = '<node><method name="send_bundle_data"/><method name="recv_bundle_pop_data"/><method name="recv_bundle_pop_file"/></node>'
ABOUT = {"address": Variant("s", "192.0.2.7"), "port": Variant("q", 4556)}


def attached(queue: tuple[str, ...] = (), *, peers: int = 1, **config: Any) -> Script:
    """A machine with configured peers, and an agent."""
    script = Script(UdpclUser, **config)
    for number in range(peers):
        peer = Eid.parse(f"dtn://peer{number or ''}/")
        script.user.connect(f"192.0.2.{number}:4556", f"192.0.2.{number}", 4556, peer, script.now)
    attach(script, queue)
    return script


def attach(script: Script, queue: tuple[str, ...] = ()) -> None:
    script.user.attached(True, script.now)
    script.reply("Introspect", OLDER)
    script.reply("recv_bundle_get_queue", list(queue))


def paths(script: Script) -> dict[int, Any]:
    """What was raised, by number."""
    return {each.info.path: each.info for each in script.of(fx.PathRaised)}


def test_each_configured_address_is_a_path_and_one_more_is_for_what_comes() -> None:
    found = paths(attached(peers=2)).values()
    assert [(info.peer, info.authenticated, info.address) for info in found if info.kinds] == [
        (PEER, True, "192.0.2.0:4556"),
        (Eid.parse("dtn://peer1/"), True, "192.0.2.1:4556"),
    ]
    (incoming,) = [info for info in found if not info.kinds]
    assert (incoming.peer, incoming.authenticated) == (None, False)


def test_bundles_go_where_their_path_leads() -> None:
    script = attached(peers=2)
    one, two = [path for path, info in paths(script).items() if info.kinds]
    script.offer(one, 10)
    script.offer(two, 20, first=2)
    sends = script.sent()
    to = [send.parameters or {} for send in sends]
    assert [each["address"].value for each in to] == ["192.0.2.0", "192.0.2.1"]
    script.signal(AGENT_PATH, "send_bundle_started", "1", 10)
    script.signal(AGENT_PATH, "send_bundle_finished", "2", 20, "success")
    script.signal(AGENT_PATH, "send_bundle_finished", "1", 10, "no route to host")
    assert script.of(fx.UnitsAcked) == [fx.UnitsAcked(two, [2])]
    assert script.of(fx.UnitRefused) == [fx.UnitRefused(one, 1, RefuseReason.RETRANSMIT)]


def test_results_that_come_before_their_numbers_find_their_units() -> None:
    script = attached(peers=2)
    one, two = [path for path, info in paths(script).items() if info.kinds]
    script.offer(one, 10)
    script.offer(two, 20, first=2)
    script.signal(AGENT_PATH, "send_bundle_finished", "2", 20, "success")
    script.signal(AGENT_PATH, "send_bundle_finished", "1", 10, "success")
    script.sent()
    assert script.of(fx.UnitsAcked) == [fx.UnitsAcked(one, [1]), fx.UnitsAcked(two, [2])]


def test_a_bundle_that_the_agent_never_sends_is_refused_for_good() -> None:
    script = attached()
    (path,) = [path for path, info in paths(script).items() if info.kinds]
    script.offer(path, 10)
    (send,) = script.of(fx.Send)
    script.user.failed(send.token, fx.Failure("org.tumpline.Error.TransferError", "too long"), script.now)
    assert script.of(fx.UnitRefused) == [fx.UnitRefused(path, 1, RefuseReason.NOT_ACCEPTABLE)]


def test_what_comes_is_fetched_and_shown() -> None:
    script = attached(queue=("3",))
    incoming = next(path for path, info in paths(script).items() if not info.kinds)
    script.signal(AGENT_PATH, "recv_bundle_finished", "4", 50, ABOUT)
    takes = script.of(fx.Take)
    assert [(take.id, take.octets, take.over) for take in takes] == [("3", -1, incoming), ("4", 50, incoming)]
    for take in takes:
        script.user.popped(take.token, 50)
    shown = script.of(fx.Present)
    script.user.acknowledge([each.token for each in shown], script.now)
    assert [each.token for each in script.of(fx.Discard)] == [each.token for each in shown]


def test_when_the_agent_goes_paths_go_but_what_was_fetched_is_kept() -> None:
    script = attached()
    found = paths(script)
    (path,) = [path for path, info in found.items() if info.kinds]
    script.offer(path, 10)
    script.sent()
    script.signal(AGENT_PATH, "recv_bundle_finished", "4", 50, ABOUT)
    (take,) = script.of(fx.Take)
    script.user.popped(take.token, 50)
    script.detach("gone")
    assert script.of(fx.UnitsLost) == [fx.UnitsLost(path, [1])]
    assert script.of(fx.PathLowered) == [fx.PathLowered(path, "gone")]
    (shown,) = script.of(fx.Present)
    attach(script)
    assert [info.peer for info in paths(script).values()] == [PEER]
    script.user.acknowledge([shown.token], script.now)
    assert script.of(fx.Discard) == [fx.Discard(shown.token)]


# ---- those that ask to be sent to ------------------------------------------------------------------------------------


def poll(script: Script, node: str = "dtn://peer/", host: str = "198.51.100.9", ms: int = 1000) -> list[fx.Effect]:
    return script.signal(AGENT_PATH, "polling_received", 800_000_000_000, ms, node, host, 4556)


def test_a_poll_makes_a_path_for_three_intervals() -> None:
    script = attached()
    paths(script)
    poll(script)
    ((path, info),) = paths(script).items()
    assert (info.peer, info.address, info.authenticated) == (PEER, "198.51.100.9:4556", True)
    script.run(2.5)
    poll(script)
    script.run(2.9)
    assert not script.of(fx.PathRaised)
    assert not script.of(fx.PathLowered)
    script.run(0.2)
    (lowered,) = script.of(fx.PathLowered)
    assert lowered.path == path


@pytest.mark.parametrize(
    ("node", "trusting", "counts"),
    [("dtn://peer/", False, True), ("dtn://stranger/", False, False), ("dtn://stranger/", True, True)],
)
def test_who_is_not_configured_makes_no_route_unless_claims_are_trusted(
    node: str, trusting: bool, counts: bool
) -> None:
    script = attached(trusting=trusting)
    paths(script)
    poll(script, node)
    assert [info.authenticated for info in paths(script).values()] == [counts]


@pytest.mark.parametrize(
    ("node", "ms"),
    [
        ("", 1000),
        ("nonsense", 1000),
        ("dtn:none", 1000),
        ("dtn://peer/", 0),
        ("dtn://peer/", -5),
        ("dtn://peer/", 1 << 30),
    ],
)
def test_senseless_polls_are_passed_over(node: str, ms: int) -> None:
    script = attached()
    paths(script)
    poll(script, node, ms=ms)
    assert not paths(script)


def test_a_poll_from_where_the_peer_is_configured_changes_nothing() -> None:
    script = attached()
    paths(script)
    poll(script, host="192.0.2.0")
    assert not paths(script)


def test_polls_of_very_many_are_bounded() -> None:
    script = attached()
    paths(script)
    for number in range(POLLED_MOST + 50):
        poll(script, f"dtn://n{number}/")
    assert len(paths(script)) == POLLED_MOST


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_an_agent_that_never_tells_what_became_of_bundles() -> None:
    script = attached(stall_s=30.0)
    (path,) = [path for path, info in paths(script).items() if info.kinds]
    script.offer(path, 10)
    script.sent()
    script.run(29)
    assert not script.of(fx.UnitsLost)
    script.run(2)
    assert script.of(fx.UnitsLost) == [fx.UnitsLost(path, [1])]
    assert [each.name for each in script.of(fx.Noticed)] == ["agent_stalled"]


def test_disconnect_ends_a_path() -> None:
    script = attached()
    (path,) = [path for path, info in paths(script).items() if info.kinds]
    script.user.disconnect("192.0.2.0:4556", path, "over", script.now)
    script.user.disconnect("192.0.2.0:4556", path, "over", script.now)
    assert script.of(fx.PathLowered) == [fx.PathLowered(path, "over")]
    script.detach()
    attach(script)
    assert not paths(script)


def test_an_agent_that_is_gone_at_once() -> None:
    script = Script(UdpclUser)
    script.user.attached(False, script.now)
    script.fail("Introspect", GONE)
    assert not paths(script)


def test_stopping_ends_everything() -> None:
    script = attached()
    found = paths(script)
    (path,) = [path for path, info in found.items() if info.kinds]
    script.offer(path, 10)
    script.user.wind_down("stopped", script.now)
    script.user.drop_all("stopped", script.now)
    assert {each.path for each in script.of(fx.PathLowered)} == set(found)
    assert script.of(fx.UnitsLost) == [fx.UnitsLost(path, [1])]
