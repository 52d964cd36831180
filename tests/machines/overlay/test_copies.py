"""Copies that come by several ways are delivered once; what a sender repeats is delivered as often as it was sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.overlay.copies import MEMORY_S, PACKETS_MOST, Copies, Way

WAYS = (Way.FLOOD, Way.V1_FROM, Way.V1_TO)


def test_a_copy_is_dropped_and_a_repetition_is_not() -> None:
    copies = Copies()
    came = [(Way.FLOOD, True), (Way.V1_FROM, False), (Way.V1_FROM, True), (Way.FLOOD, False), (Way.FLOOD, True)]
    assert [copies.is_new(b"ping", way, 0.0) for way, _ in came] == [is_new for _, is_new in came]
    assert copies.dropped == 2


@given(st.integers(1, 5), st.data())
def test_in_any_interleaving_of_ways_each_sending_is_delivered_once(sendings: int, data: st.DataObject) -> None:
    """A way keeps its order; between ways anything may overtake."""
    ways = data.draw(st.lists(st.sampled_from(WAYS), min_size=1, unique=True))
    came = data.draw(st.permutations([way for way in ways for _ in range(sendings)]))
    copies = Copies()
    assert sum(copies.is_new(b"ping", way, 0.0) for way in came) == sendings


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.sampled_from(WAYS)), max_size=30))
def test_as_often_as_by_the_way_that_lost_least(came: list[tuple[bytes, Way]]) -> None:
    copies = Copies()
    delivered = [packet for packet, way in came if copies.is_new(packet, way, 0.0)]
    for packet in (b"a", b"b"):
        assert delivered.count(packet) == max(came.count((packet, way)) for way in WAYS)


def test_after_a_while_it_is_another_packet() -> None:
    copies = Copies()
    assert copies.is_new(b"ping", Way.FLOOD, 0.0)
    assert not copies.is_new(b"ping", Way.V1_TO, MEMORY_S - 0.01)
    assert copies.is_new(b"ping", Way.V0_TO, 2 * MEMORY_S)


def test_it_is_forgotten_in_time_and_in_number() -> None:
    copies = Copies()
    for number in range(PACKETS_MOST + 5):
        copies.is_new(number.to_bytes(4, "big"), Way.FLOOD, number / PACKETS_MOST)
    assert len(copies) == PACKETS_MOST
    at = copies.next_timeout()
    assert at is not None
    copies.handle_timeout(at + 0.5)
    assert PACKETS_MOST * 0.4 < len(copies) < PACKETS_MOST * 0.6
    copies.handle_timeout(at + 2.0)
    assert (len(copies), copies.next_timeout()) == (0, None)
