"""Contacts: windows, dialling, pace and volume, in virtual time."""

from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu, Connect, Disconnect
from tumpline.machines.plan import Contact, Peer
from tumpline.testing.lone_node import EPOCH_MS, LoneNode, whole
from tumpline.wire.eid import Eid

ROVER = Eid.parse("dtn://rover/")
PEER = Peer(ROVER, "tcp", "192.0.2.1:4556")


def contact(start_s: float, duration_s: float, rate_bps: int | None = None, link: str | None = None) -> Contact:
    return Contact(ROVER, EPOCH_MS + int(start_s * 1000), int(duration_s * 1000), rate_bps, None, link)


def planned(*contacts: Contact) -> LoneNode:
    node = LoneNode()
    node.machine.add_peer(PEER, node.now)
    for each in contacts:
        node.machine.add_contact(each, node.now)
    return node.start()


def send(node: LoneNode, count: int = 1, octets: int = 10, must_not_fragment: bool = False) -> None:
    adus = [
        Adu(Eid.parse("dtn://rover/x"), Octets(b"x" * octets), "me", hop_limit=0, must_not_fragment=must_not_fragment)
    ] * count
    node.machine.originate(adus, node.now)
    node.settle()


def test_without_contacts_a_peer_is_dialled_at_once_and_for_good() -> None:
    node = planned()
    assert node.took(Connect) == [Connect("tcp", "192.0.2.1:4556", ROVER)]
    assert node.machine.remove_peer(PEER, node.now)
    node.settle()
    assert [each.address for each in node.took(Disconnect)] == ["192.0.2.1:4556"]


def test_a_window_opens_and_closes_on_time() -> None:
    node = planned(contact(30, 10))
    assert not node.took(Connect)
    node.run_until(29.99)
    assert not node.took(Connect)
    node.run_until(30.01)
    assert len(node.took(Connect)) == 1
    node.path_up(1, "dtn://rover/")
    send(node)
    assert len(node.forwarded(1)) == 1
    node.run_until(39.99)
    assert not node.took(Disconnect)
    node.run_until(40.01)
    assert {(each.address, each.path) for each in node.took(Disconnect)} == {("192.0.2.1:4556", None), (None, 1)}
    send(node)
    assert not node.forwarded()


def test_a_window_that_has_begun_is_open_at_once() -> None:
    assert len(planned(contact(-5, 10)).took(Connect)) == 1


def test_overlapping_windows_merge() -> None:
    node = planned(contact(10, 10), contact(15, 10))
    node.run_until(24.9)
    assert len(node.took(Connect)) == 1
    assert not node.took(Disconnect)
    node.run_until(25.1)
    assert len(node.took(Disconnect)) == 1


def test_paths_outside_of_windows_are_ended() -> None:
    node = planned(contact(30, 10))
    node.path_up(1, "dtn://rover/", outbound=False)
    assert [(each.path, each.reason) for each in node.took(Disconnect)] == [(1, "outside of its contacts")]
    send(node)
    assert not node.forwarded()


def test_a_contact_may_hold_for_one_link_only() -> None:
    node = planned(contact(-5, 100, link="udp"))
    assert not node.took(Connect)
    node.path_up(1, "dtn://rover/", link="udp")
    send(node)
    assert len(node.forwarded(1)) == 1


def test_adding_and_removing_take_effect_at_once() -> None:
    node = planned()
    node.path_up(1, "dtn://rover/")
    node.took(Connect)
    later = contact(100, 10)
    node.machine.add_contact(later, node.now)
    node.settle()
    assert len(node.took(Disconnect)) == 2
    assert node.machine.remove_contact(later, node.now)
    node.settle()
    assert len(node.took(Connect)) == 1
    node.path_up(2, "dtn://rover/")
    send(node)
    assert len(node.forwarded(2)) == 1


def test_what_waited_leaves_when_the_window_opens() -> None:
    node = planned(contact(30, 10))
    send(node, 3)
    node.run_until(31)
    node.path_up(1, "dtn://rover/")
    assert len(node.forwarded(1)) == 3


def test_the_rate_paces() -> None:
    node = planned(contact(0, 1000, rate_bps=8_000)).path_up(1, "dtn://rover/")
    send(node, 20, octets=400)
    octets = 0
    for second in range(1, 9):
        node.run_until(second)
        units = node.forwarded(1)
        octets += sum(unit.length for unit in units)
        assert octets <= 1000 * second + 600
        assert octets >= 1000 * second - 600
        node.acked(1, *units)


def test_nothing_is_offered_beyond_the_volume() -> None:
    node = planned(contact(0, 4, rate_bps=8_000)).path_up(1, "dtn://rover/")
    send(node, 40, octets=400, must_not_fragment=True)
    octets = 0
    node.run_until(3.999)
    octets = sum(unit.length for unit in node.forwarded(1))
    assert 3400 <= octets <= 4000


def test_a_bundle_larger_than_the_volume_is_cut_and_the_rest_waits() -> None:
    node = planned(contact(0, 2, rate_bps=8_000), contact(100, 10, rate_bps=8_000)).path_up(1, "dtn://rover/")
    send(node, octets=5000)
    (first,) = node.forwarded(1)
    assert whole(first).primary.fragment_offset == 0
    assert first.length <= 2000
    node.acked(1, first)
    node.run_until(50)
    assert not node.forwarded()
    node.path_down(1)
    node.run_until(101)
    node.path_up(2, "dtn://rover/")
    node.run_until(109)
    rest = node.forwarded(2)
    assert sum(len(whole(unit).payload) for unit in (first, *rest)) == 5000


def test_a_large_one_that_may_not_be_cut_does_not_hold_up_small_ones() -> None:
    node = planned(contact(0, 2, rate_bps=8_000), contact(100, 10, rate_bps=8_000)).path_up(1, "dtn://rover/")
    send(node, octets=5000, must_not_fragment=True)
    send(node)
    (small,) = node.forwarded(1)
    assert small.length < 1000
    node.run_until(50)
    node.path_down(1)
    node.run_until(101)
    node.path_up(2, "dtn://rover/")
    assert sorted(unit.length > 5000 for unit in node.forwarded(2))[-1]


def test_cron_windows_come_again() -> None:
    node = LoneNode()
    node.machine.add_peer(PEER, 0.0)
    node.machine.add_contact(Contact(ROVER, None, 60_000, None, "*/10 * * * *"), 0.0)
    node.start()
    node.run_until(3600)
    openings = len(node.took(Connect))
    assert openings == 6
    assert abs(len(node.took(Disconnect)) - openings) <= 1


def test_the_snapshot_shows_the_next_window() -> None:
    node = planned(contact(30, 10, rate_bps=9600))
    (shown,) = node.machine.snapshot(0.0)["contacts"]
    assert shown["start_ms"] == EPOCH_MS + 30_000
    assert not shown["open"]
    assert shown["rate_bps"] == 9600


def test_an_address_names_a_peer_that_does_not_name_itself() -> None:
    node = planned().path_up(1, None, address=PEER.address)
    send(node)
    assert len(node.forwarded(1)) == 1


def test_a_removed_link_is_dialled_no_more() -> None:
    node = planned()
    node.took(Connect)
    node.machine.remove_link("tcp", node.now)
    node.settle()
    assert [each.address for each in node.took(Disconnect)] == [PEER.address]
    node.machine.add_contact(contact(5, 5), node.now)
    node.run_until(20)
    assert not node.took(Connect)
