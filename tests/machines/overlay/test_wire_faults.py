"""A bus that reorders, doubles, loses and alters messages: only what was sent is delivered, and each of it once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumpline.machines.overlay import Message
from tumpline.testing.overlay_exchange import Exchange, Station, ipv6, member_config

GIVEN = bytes(range(32))
FAULTS = st.lists(
    st.tuples(
        st.integers(0, 19),  # which message
        st.sampled_from(["again", "altered", "renamed", "cut"]),
        st.integers(0, 1 << 16),
        st.integers(1, 255),
    ),
    max_size=30,
)


def session(given_key: bytes | None) -> tuple[Exchange, Station, Station, Station]:
    exchange = Exchange()
    one, two, three = (exchange.add(member_config(number, given_key=given_key)) for number in (1, 2, 3))
    exchange.run()
    return exchange, one, two, three


def spoilt(message: Message, fault: str, at: int, by: int) -> Message:
    body = bytearray(message.body)
    if fault == "altered":
        body[at % len(body)] ^= by
    elif fault == "cut":
        del body[at % len(body) :]
    elif fault == "renamed":
        body_of = ("tumpline.packet.m2.m3", "tumpline.flood.m1", "tumpline.bundle.m2.m1", "tumpline.flood.m3")
        return Message(body_of[at % 4] if message.routing_key != body_of[at % 4] else body_of[0], None, bytes(body))
    return Message(message.routing_key, None, bytes(body))


@pytest.mark.parametrize("given_key", [GIVEN, None], ids=["given", "identities"])
@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(20)), faults=FAULTS)
def test_what_was_sent_comes_once_and_nothing_else(
    given_key: bytes | None, order: list[int], faults: list[tuple[int, str, int, int]]
) -> None:
    exchange, one, two, _ = session(given_key)
    packets = [
        ipv6("bbbb::1", "bbbb::2" if number % 4 else "ff02::1", number.to_bytes(4, "big")) for number in range(20)
    ]
    one.send(packets[0])  # our announcement goes before it
    mark = len(exchange.published)
    for packet in packets:
        one.send(packet)
    two.inbox.clear()
    said = [each.message for each in exchange.published[mark:] if not each.message.routing_key.endswith("m3.m1")]
    assert len(said) == 20
    queue = [said[number] for number in order]
    for number, fault, at, by in faults:
        message = said[number]
        queue.insert(at % (len(queue) + 1), spoilt(message, fault, at, by) if fault != "again" else message)
    before = two.member.snapshot(exchange.now)["members"]
    two.member.received(queue, exchange.now)
    two.drain()
    assert sorted(two.packets) == sorted(packets)
    sound = {bytes(message.body): packet for message, packet in zip(said, packets, strict=True)}
    came = dict.fromkeys(bytes(each.body) for each in queue if each in said)
    assert two.packets == [sound[body] for body in came], "nothing waits for what comes later"
    assert two.member.snapshot(exchange.now)["members"] == before, "what was refused has changed nothing"


def test_more_than_a_window_of_messages_is_taken_in_order() -> None:
    exchange, one, two, _ = session(GIVEN)
    for number in range(5000):
        one.send(ipv6("bbbb::1", "bbbb::2", number.to_bytes(4, "big")))
    exchange.run()
    assert len(two.packets) == 5000
    late = exchange.published[-4999].message
    exchange.say(late.routing_key, bytes(late.body))
    assert (len(two.packets), two.member.counters.replays) == (5000, 1)
