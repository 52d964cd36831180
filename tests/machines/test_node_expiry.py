"""RFC 9171 §5.5: lifetimes end on time, everywhere, without a stall."""

from tumpline.machines.effects import Outcome, Transact
from tumpline.testing.lone_node import EPOCH_MS, LoneNode, bundle


def test_expiry_is_on_time_and_in_bounded_batches() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    node.receive(1, *[bundle("dtn://a/x", "dtn://b/y", sequence=n, lifetime_ms=1000) for n in range(1000)])
    node.run_until(0.99)
    assert len(node.store.bundles) == 1000
    node.hold_store = True
    node.run_until(1.1)
    sizes = []
    began = node.now
    while node.store.bundles:
        of_one_instant = 0
        while node.waiting:
            transact: Transact = node.waiting.pop(0)
            sizes.append(len(transact.operations))
            of_one_instant += sizes[-1]
            node.machine.store_done(transact.token, node.store.carry_out(transact.operations), node.now)
            node.settle()
        assert of_one_instant <= 130, "nothing else could come in between"
        node.run_until(node.now + 0.001)
    assert max(sizes) <= 128
    assert node.now - began < 0.15
    assert not node.store.bundles
    assert node.machine.snapshot(0)["store"]["octets"] == 0
    assert node.machine.snapshot(0)["counters"]["deleted_lifetime_expired"] == 1000


def test_the_later_ones_follow() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    for n in (3, 1, 2):
        node.receive(1, bundle("dtn://a/x", "dtn://b/y", sequence=n, lifetime_ms=n * 1000))
    for second in (1, 2, 3):
        node.run_until(second + 0.1)
        assert len(node.store.bundles) == 3 - second


def test_bundles_of_an_earlier_run_expire() -> None:
    before = LoneNode().start().path_up(1, "dtn://a/")
    before.receive(1, bundle("dtn://a/x", "dtn://b/y", lifetime_ms=1000))
    node = LoneNode(store=before.store).start()
    node.run_until(1.1)
    assert not node.store.bundles


def test_one_on_its_way_is_deleted_and_its_late_answer_ignored() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/").path_up(2, "dtn://b/")
    node.receive(1, bundle("dtn://a/x", "dtn://b/y", lifetime_ms=1000))
    (unit,) = node.forwarded(2)
    node.run_until(2)
    assert not node.store.bundles
    node.lost(2, unit)
    node.run_until(100)
    assert not node.forwarded()
    assert node.machine.snapshot(0)["store"]["octets"] == 0


def test_a_lifetime_may_be_cut_short_here() -> None:
    node = LoneNode(max_lifetime_ms=2000).start().path_up(1, "dtn://a/")
    node.receive(1, bundle("dtn://a/x", "dtn://b/y"))
    node.run_until(2.1)
    assert not node.store.bundles
    assert node.notices("bundles_deleted")[0]["reason"] == "traffic_pared"


def test_a_lifetime_without_end_does_not_overflow() -> None:
    node = LoneNode().start().path_up(1, "dtn://a/")
    node.receive(1, bundle("dtn://a/x", "dtn://b/y", lifetime_ms=(1 << 64) - 1))
    (stored,) = node.store.bundles.values()
    assert stored.expires_ms < 1 << 63


def test_when_the_time_becomes_known_nothing_is_lost() -> None:
    """Times kept without a clock are put on the scale of the clock, not taken for the year 2000."""
    node = LoneNode(clock=False).start().path_up(1, "dtn://a/")
    node.receive(1, bundle("dtn://a/x", "dtn://b/y", lifetime_ms=10_000))
    node.run_until(4)
    node.machine.set_clock(EPOCH_MS + 4000, node.now)
    node.settle()
    node.run_until(10.5)
    assert len(node.store.bundles) == 1
    node.run_until(21)
    assert not node.store.bundles


def test_a_restart_with_a_known_time_keeps_what_came_without() -> None:
    before = LoneNode(clock=False).start().path_up(1, "dtn://a/")
    before.receive(1, bundle("dtn://a/x", "dtn://b/y", lifetime_ms=10_000))
    node = LoneNode(store=before.store).start()
    node.run_until(5)
    assert len(node.store.bundles) == 1
    node.path_up(2, "dtn://b/")
    assert len(node.forwarded(2)) == 1


def test_identities_are_forgotten_after_their_time() -> None:
    node = LoneNode(forget_s=1.0).start().path_up(1, "dtn://a/")
    node.machine.register("s", "s", node.now)
    node.receive(1, bundle("dtn://a/x", "dtn://here/s", lifetime_ms=5000))
    (delivery,) = node.deliveries()
    node.machine.delivered("s", [(delivery.seq, Outcome())], node.now)
    node.settle()
    node.run_until(4.5)
    assert node.store.identities
    node.run_until(6.5)
    assert not node.store.identities
    assert node.machine.next_timeout() is None or node.machine.next_timeout() != node.now
