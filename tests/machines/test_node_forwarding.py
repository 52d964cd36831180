"""RFC 9171 §5.4: next hops, rewriting, and what becomes of attempts."""

import pytest

from tumpline.machines.bpa.forward import Forwarding
from tumpline.machines.bpa.queues import Consumer, Queue
from tumpline.machines.bpa.rewrite import Rewriter
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu, RefuseReason
from tumpline.machines.plan import Peer, Route
from tumpline.testing.lone_node import LoneNode, bundle, whole
from tumpline.wire.bundle7 import (
    STRICT,
    bundle_age_block,
    decode_bundle_age,
    decode_hop_count,
    decode_previous_node,
    hop_count_block,
    previous_node_block,
    split_whole,
)
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern


def route(to: str, via: str, priority: int = 10) -> Route:
    return Route(EidPattern.parse(to), Eid.parse(via), priority)


def send(node: LoneNode, to: str, count: int = 1) -> None:
    node.machine.originate([Adu(Eid.parse(to), Octets(b"%d" % n), "me") for n in range(count)], node.now)
    node.settle()


def payloads(node: LoneNode, path: int) -> list[int]:
    return [int(whole(unit).payload) for unit in node.forwarded(path)]


def test_blocks_are_renewed_and_the_primary_block_is_not_touched() -> None:
    node = LoneNode("dtn://relay/").start().path_up(1, "dtn://ground/")
    blocks = (
        previous_node_block(Eid.parse("dtn://older/"), 4),
        bundle_age_block(100, 2),
        hop_count_block(9, 1, 3),
    )
    data = bundle("dtn://ground/me", "dtn://rover/x", blocks=blocks)
    node.receive(1, data)
    node.run_until(2.5)
    node.path_up(2, "dtn://rover/")
    (unit,) = node.forwarded(2)
    sent, _, _ = split_whole(unit.head + b"payload" + unit.tail, STRICT)
    assert sent.primary_octets == split_whole(data, STRICT)[0].primary_octets
    previous, age, hops = sent.blocks
    assert [block.number for block in sent.blocks] == [4, 2, 3]
    assert decode_previous_node(previous.data) == Eid.parse("dtn://relay/")
    assert decode_bundle_age(age.data) == 2600
    assert decode_hop_count(hops.data) == (9, 2)


def test_previous_node_is_inserted_with_a_free_number_and_can_be_switched_off() -> None:
    for wanted in (True, False):
        node = LoneNode("dtn://relay/", previous_node=wanted).start().path_up(1, "dtn://a/").path_up(2, "dtn://b/")
        node.receive(1, bundle("dtn://a/x", "dtn://b/y", blocks=(hop_count_block(9, 1, 7),)))
        (unit,) = node.forwarded(2)
        blocks = {block.type: block.number for block in whole(unit).blocks}
        assert blocks == ({6: 8, 10: 7} if wanted else {10: 7})


def test_numbers_at_the_end_of_their_range_are_forwarded() -> None:
    """There is none behind the highest block number, and no age above the highest."""
    node = LoneNode("dtn://relay/").start().path_up(1, "dtn://a/")
    most = (1 << 64) - 1
    blocks = (hop_count_block(9, 1, most), hop_count_block(9, 1, 2)._replace(type=192), bundle_age_block(most - 2, 4))
    node.receive(1, bundle("dtn://a/x", "dtn://b/y", created_ms=0, lifetime_ms=most, blocks=blocks))
    node.path_up(2, "dtn://b/")
    (unit,) = node.forwarded(2)
    assert {block.number: block.type for block in whole(unit).blocks} == {3: 6, most: 10, 2: 192, 4: 7}


@pytest.mark.parametrize("residence_ms", [0, 1, 1000])
def test_no_age_is_too_high_to_be_told(residence_ms: int) -> None:
    most = (1 << 64) - 1
    (older,) = Rewriter(None).blocks((bundle_age_block(most - 1, 2),), residence_ms)
    assert decode_bundle_age(older.data) == min(most, most - 1 + residence_ms)


def test_never_back_to_where_it_came_from() -> None:
    node = LoneNode().start().path_up(1, "dtn://hub/")
    node.machine.add_route(route("dtn://far/**", "dtn://hub/"), node.now)
    node.receive(1, bundle("dtn://a/x", "dtn://far/y"))
    assert not node.forwarded()
    assert node.store.bundles
    node.machine.add_route(route("dtn://far/**", "dtn://other/", 20), node.now)
    node.path_up(2, "dtn://other/")
    assert len(node.forwarded(2)) == 1


def test_the_best_hop_that_is_up() -> None:
    node = LoneNode().start()
    for each in (
        route("*:**", "dtn://any/", 1),
        route("dtn://far/**", "dtn://two/", 20),
        route("dtn://far/**", "dtn://one/"),
    ):
        node.machine.add_route(each, node.now)
    for path, peer in enumerate(("any", "two", "one", "far"), 1):
        node.path_up(path, f"dtn://{peer}/")
        send(node, "dtn://far/x")
        assert len(node.forwarded(path)) >= 1, peer
    node.path_down(4)
    send(node, "dtn://far/x")
    assert node.forwarded(3)


def test_without_a_route_bundles_are_kept_until_one_is_there() -> None:
    node = LoneNode().start().path_up(1, "dtn://hub/")
    send(node, "dtn://far/x", 3)
    assert not node.forwarded()
    node.machine.add_route(route("dtn://far/**", "dtn://hub/"), node.now)
    node.settle()
    assert payloads(node, 1) == [0, 1, 2]
    assert node.machine.remove_route(EidPattern.parse("dtn://far/**"), Eid.parse("dtn://hub/"), node.now)
    send(node, "dtn://far/x")
    assert not node.forwarded()


def test_an_unproved_claim_makes_no_route() -> None:
    node = LoneNode().start().path_up(1, "dtn://far/", authenticated=False)
    send(node, "dtn://far/x")
    assert not node.forwarded()


def test_lost_bundles_go_again_in_order_when_the_path_is_back() -> None:
    node = LoneNode().start().path_up(1, "dtn://b/")
    send(node, "dtn://b/x", 5)
    units = node.forwarded(1)
    node.acked(1, units[1])
    node.lost(1, units[0], *units[2:])
    node.path_down(1)
    send(node, "dtn://b/x")
    assert not node.forwarded()
    node.path_up(2, "dtn://b/")
    assert payloads(node, 2) == [0, 2, 3, 4, 0]


def test_a_bundle_is_under_way_to_one_neighbour_at_a_time() -> None:
    node = LoneNode().start().path_up(1, "dtn://hub/")
    node.machine.add_route(route("dtn://far/**", "dtn://hub/"), node.now)
    send(node, "dtn://far/x")
    (unit,) = node.forwarded(1)
    node.path_up(2, "dtn://far/")
    assert not node.forwarded()
    node.acked(1, unit)
    assert not node.forwarded()
    assert not node.store.bundles


def test_no_resources_pauses_the_whole_path() -> None:
    node = LoneNode(retry_s_min=1.0).start().path_up(1, "dtn://b/")
    send(node, "dtn://b/x")
    node.refused(1, node.forwarded(1)[0], RefuseReason.NO_RESOURCES)
    send(node, "dtn://b/other")
    node.run_until(0.9)
    assert not node.forwarded()
    node.run_until(1.0)
    assert len(node.forwarded(1)) == 2


def test_back_off_doubles_to_its_cap_and_ends_with_success() -> None:
    node = LoneNode(retry_s_min=1.0, retry_s_max=3.0).start().path_up(1, "dtn://b/")
    send(node, "dtn://b/x")
    waits = []
    for _ in range(4):
        (unit,) = node.forwarded(1)
        node.refused(1, unit, RefuseReason.NO_RESOURCES)
        assert not node.forwarded()
        due = node.machine.next_timeout()
        assert due is not None
        waits.append(due - node.now)
        node.run_until(due)
    assert waits == [1.0, 2.0, 3.0, 3.0]
    node.acked(1, *node.forwarded(1))
    assert not node.store.bundles


def test_completed_is_as_good_as_acknowledged() -> None:
    node = LoneNode().start().path_up(1, "dtn://b/")
    send(node, "dtn://b/x")
    node.refused(1, node.forwarded(1)[0], RefuseReason.COMPLETED)
    assert not node.store.bundles


def test_retransmit_goes_again() -> None:
    node = LoneNode().start().path_up(1, "dtn://b/")
    send(node, "dtn://b/x")
    node.refused(1, node.forwarded(1)[0], RefuseReason.RETRANSMIT)
    node.run_until(5)
    assert len(node.forwarded(1)) == 1


def test_not_acceptable_tries_others_first() -> None:
    node = LoneNode().start().path_up(1, "dtn://one/").path_up(2, "dtn://far/")
    node.machine.add_route(route("dtn://far/**", "dtn://one/"), node.now)
    node.machine.add_route(route("dtn://far/**", "dtn://three/", 20), node.now)
    send(node, "dtn://far/x")
    node.refused(2, node.forwarded(2)[0], RefuseReason.NOT_ACCEPTABLE)
    node.refused(1, node.forwarded(1)[0], RefuseReason.NOT_ACCEPTABLE)
    assert node.store.bundles, "one next hop is left, though it is down"
    node.path_up(3, "dtn://three/")
    node.refused(3, node.forwarded(3)[0], RefuseReason.NOT_ACCEPTABLE)
    assert not node.store.bundles
    assert node.notices("bundles_deleted")[0]["reason"] == "no_route"


def test_windows_bound_what_is_under_way_and_in_memory() -> None:
    node = LoneNode(window_bundles=4).start().path_up(1, "dtn://b/")
    send(node, "dtn://b/x", 50)
    seen: list[int] = []
    while units := node.forwarded(1):
        assert len(units) <= 4
        seen += [int(whole(unit).payload) for unit in units]
        node.acked(1, *units)
    assert seen == list(range(50))
    assert not node.store.bundles


def test_octets_bound_the_window_too_but_one_bundle_always_goes() -> None:
    node = LoneNode(window_octets=100).start().path_up(1, "dtn://b/")
    node.machine.originate([Adu(Eid.parse("dtn://b/x"), Octets(b"x" * 300), "me")] * 3, node.now)
    node.settle()
    for _ in range(3):
        (unit,) = node.forwarded(1)
        node.acked(1, unit)
    assert not node.store.bundles


def test_a_backlog_is_taken_up_after_a_restart() -> None:
    before = LoneNode().start()
    send(before, "dtn://b/x", 600)
    node = LoneNode(store=before.store).start().path_up(1, "dtn://b/")
    seen = 0
    while units := node.forwarded(1):
        seen += len(units)
        node.acked(1, *units)
    assert seen == 600
    send(node, "dtn://b/x")
    assert len(node.forwarded(1)) == 1


def test_several_queues_share_a_neighbour() -> None:
    node = LoneNode(window_bundles=8).start()
    for demux in ("x", "y", "z"):
        send(node, f"dtn://b/{demux}", 20)
    node.path_up(1, "dtn://b/")
    first_round = {str(whole(unit).primary.destination) for unit in node.forwarded(1)}
    assert first_round
    seen = set(first_round)
    node.path_down(1)
    node.path_up(2, "dtn://b/")
    while units := node.forwarded(2):
        seen |= {str(whole(unit).primary.destination) for unit in units}
        node.acked(2, *units)
    assert seen == {"dtn://b/x", "dtn://b/y", "dtn://b/z"}
    assert not node.store.bundles


def test_a_second_path_takes_over() -> None:
    node = LoneNode().start().path_up(1, "dtn://b/").path_up(2, "dtn://b/")
    send(node, "dtn://b/x")
    (unit,) = node.forwarded(2)
    node.lost(2, unit)
    node.path_down(2)
    assert len(node.forwarded(1)) == 1


def test_a_path_that_comes_or_goes_concerns_only_the_queues_that_it_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[str] = []
    find = Forwarding.find

    def counted(self: Forwarding, queue: Queue) -> list[Consumer]:
        evaluated.append(queue.name)
        return find(self, queue)

    monkeypatch.setattr(Forwarding, "find", counted)
    node = LoneNode().start()
    node.machine.add_route(route("dtn://far/**", "dtn://n7/"), node.now)
    node.machine.add_peer(Peer(Eid.parse("dtn://n7/"), "tcp", "192.0.2.7:4556", (Eid.parse("ipn:7.0"),)), node.now)
    destinations = [*(f"dtn://n{number}/x" for number in range(500)), "dtn://far/x", "ipn:7.1"]
    node.receive(1, *(bundle("dtn://a/x", each, sequence=number) for number, each in enumerate(destinations)))
    evaluated.clear()
    for number in range(500):
        node.path_up(number, f"dtn://n{number}/")
    assert len(evaluated) == len(destinations), "each once, when its neighbour came"
    assert len(node.forwarded()) == len(destinations)
    evaluated.clear()
    node.path_down(7)
    assert sorted(evaluated) == ["dtn://far/x", "dtn://n7/x", "ipn:7.1"]


def test_a_route_by_the_destination_itself_comes_and_goes() -> None:
    node = LoneNode().start()
    send(node, "dtn://n3/x")
    node.machine.add_route(route("dtn://n3/**", "dtn://n3/"), node.now)
    assert node.machine.remove_route(EidPattern.parse("dtn://n3/**"), Eid.parse("dtn://n3/"), node.now)
    node.path_up(3, "dtn://n3/")
    assert payloads(node, 3) == [0]


def test_a_removed_bundle_on_its_way_is_not_removed_twice() -> None:
    node = LoneNode().start().path_up(1, "dtn://b/")
    send(node, "dtn://b/x", 2)
    units = node.forwarded(1)
    node.machine.remove(units[0].seq, node.now)
    node.settle()
    assert len(node.store.bundles) == 1
    assert node.notices("bundles_deleted")[0]["reason"] == "transmission_canceled"
    node.acked(1, *units)
    assert not node.store.bundles
    assert node.machine.snapshot(0)["store"]["octets"] == 0


@pytest.mark.parametrize("peer", ["dtn://here/", "ipn:5.0"])
def test_bundles_for_any_own_id_stay(peer: str) -> None:
    node = LoneNode(aliases=(Eid.parse("ipn:5.0"),)).start().path_up(1, peer)
    node.receive(1, bundle("dtn://a/x", "dtn://here/later"), bundle("dtn://a/x", "ipn:5.9", sequence=2))
    assert not node.forwarded()
    assert len(node.store.bundles) == 2
