"""Who is there: announcements that are late, doubled, forged, of an earlier start, or do not come any more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.overlay import (
    AddressConflict,
    Departure,
    KeyMismatch,
    MemberChanged,
    MemberJoined,
    MemberLeft,
    Message,
)
from tumpline.machines.overlay.sealing import Secrets
from tumpline.testing.overlay_exchange import Exchange, Station, claim, ipv6, member_config
from tumpline.wire.overlay import Format, encode_signed_hello

GIVEN = bytes(range(32))


def two(**more: object) -> tuple[Exchange, Station, Station]:
    exchange = Exchange()
    one, other = exchange.add(member_config(1, **more)), exchange.add(member_config(2, **more))
    exchange.run()
    return exchange, one, other


def departures(station: Station) -> list[Departure]:
    return [event.why for event in station.events if isinstance(event, MemberLeft)]


def names(station: Station, now: float) -> list[str]:
    return [member["name"] for member in station.member.snapshot(now)["members"]]


def hellos_of(exchange: Exchange, name: str) -> list[Message]:
    return [each.message for each in exchange.published if each.message.routing_key == f"tumpline.hello.{name}"]


@pytest.mark.parametrize("given_key", [GIVEN, None], ids=["given", "identities"])
def test_who_is_silent_for_three_intervals_is_gone(given_key: bytes | None) -> None:
    exchange, one, other = two(given_key=given_key)
    exchange.run(25.0)
    assert names(one, exchange.now) == ["m2"]
    other.drop()
    exchange.run(20.0)
    assert names(one, exchange.now) == ["m2"]
    exchange.run(11.0)
    assert (names(one, exchange.now), departures(one)) == ([], [Departure.SILENT])


def test_who_comes_back_is_there_at_once_with_the_same_keys() -> None:
    exchange, one, other = two()
    other.drop()
    exchange.run(5.0)
    other.join()
    exchange.run()
    one.send(packet := ipv6("bbbb::1", "bbbb::2"))
    exchange.run()
    assert (other.packets, departures(one)) == ([packet], [])


@pytest.mark.parametrize("given_key", [GIVEN, None], ids=["given", "identities"])
def test_who_started_anew_is_taken_at_once(given_key: bytes | None) -> None:
    exchange, one, _ = two(given_key=given_key)
    again = exchange.add(member_config(2, instance=b"new-one!", started_ms=2000, given_key=given_key))
    exchange.run()
    assert departures(one) == [Departure.RESTARTED]
    one.send(packet := ipv6("bbbb::1", "bbbb::2"))
    exchange.run()
    assert again.packets == [packet]


def test_what_was_said_before_a_new_start_is_not_believed_after_it() -> None:
    exchange, one, _ = two(given_key=GIVEN)
    old = hellos_of(exchange, "m2")
    exchange.add(
        member_config(2, instance=b"new-one!", started_ms=2000, given_key=GIVEN, addresses=(claim("cc::2/64"),))
    )
    exchange.run()
    for message in old:
        exchange.say(message.routing_key, bytes(message.body))
    exchange.run(2.0)
    assert one.member.snapshot(exchange.now)["members"][0]["claims"] == ["cc::2/128"]
    exchange.run(5.0)
    assert departures(one) == [Departure.RESTARTED], "the one that is there has answered, and stays"


def test_an_announcement_after_a_goodbye_brings_nobody_back() -> None:
    exchange, one, other = two()
    other.leave()
    exchange.run()
    for message in hellos_of(exchange, "m2"):
        exchange.say(message.routing_key, bytes(message.body))
    assert names(one, exchange.now) == []
    assert departures(one) == [Departure.SAID_SO]


@given(st.permutations(range(5)), st.lists(st.integers(0, 4), max_size=5))
def test_in_any_order_and_doubled_the_newest_announcement_counts(order: list[int], doubled: list[int]) -> None:
    exchange, one, other = two()
    hello = other.member._announcer.hello
    secrets = Secrets(other.member.config)
    said = []
    for number in range(5):
        claims = (claim(f"dd::{number + 1}/64"),)
        signed = hello._replace(sequence=hello.sequence + 1 + number, addresses=claims).encode()
        said.append(encode_signed_hello(signed, secrets.prove(signed)))
    for number in [*order, *doubled]:
        exchange.say("tumpline.hello.m2", said[number])
    assert one.member.snapshot(exchange.now)["members"][0]["claims"] == ["dd::5/128"]
    changes = [event for event in one.events if isinstance(event, MemberChanged)]
    assert 1 <= len(changes) <= 5


@pytest.mark.parametrize("given_key", [GIVEN, None], ids=["given", "identities"])
def test_forged_announcements_change_nothing(given_key: bytes | None) -> None:
    exchange, one, _ = two(given_key=given_key)
    forger = Secrets(member_config(9, given_key=None if given_key is None else bytes(32)))
    hello = exchange.stations["m2"].member._announcer.hello._replace(sequence=99, addresses=())
    signed = hello.encode()
    before = one.member.snapshot(exchange.now)["members"]
    for proof in (forger.prove(signed), bytes(32), b""):
        exchange.say("tumpline.hello.m2", encode_signed_hello(signed, proof))
    leaving = hello._replace(is_leaving=True).encode()
    exchange.say("tumpline.hello.m2", encode_signed_hello(leaving, forger.prove(leaving)))
    assert one.member.snapshot(exchange.now)["members"] == before
    assert one.member.snapshot(exchange.now)["refused"] == 4
    assert len([event for event in one.events if isinstance(event, KeyMismatch)]) == 1


def test_a_member_with_another_key_is_told_of_once_and_not_spoken_to() -> None:
    exchange = Exchange()
    one = exchange.add(member_config(1, given_key=GIVEN))
    other = exchange.add(member_config(2, given_key=bytes(32)))
    exchange.run(60.0)
    assert names(one, exchange.now) == []
    assert [event.name for event in one.events if isinstance(event, KeyMismatch)] == ["m2"]
    mark = len(exchange.published)
    one.send(ipv6("bbbb::1", "bbbb::2"))
    exchange.run()
    assert (other.packets, exchange.keys_since(mark)) == ([], [])


def test_a_pinned_identity_is_the_only_one_that_is_believed() -> None:
    pins = {"m2": Secrets(member_config(2)).public}
    exchange = Exchange()
    one = exchange.add(member_config(1, pins=pins))
    exchange.add(member_config(2, identity=b"somebody else's identity octets!"))
    exchange.run(60.0)
    assert names(one, exchange.now) == []
    exchange.add(member_config(2, started_ms=1, instance=b"the true"))
    exchange.run()
    assert one.member.snapshot(exchange.now)["members"][0]["trust"] == "proven"


def test_a_new_identity_under_a_name_is_taken_when_the_known_one_does_not_answer() -> None:
    exchange, one, _ = two()
    again = exchange.add(
        member_config(2, identity=b"no state directory: a new one!!!", instance=b"new-one!", started_ms=2000)
    )
    exchange.run()
    assert [event.name for event in one.events if isinstance(event, KeyMismatch)] == ["m2"]
    exchange.run(5.0)
    one.send(packet := ipv6("bbbb::1", "bbbb::2"))
    exchange.run()
    assert again.packets == [packet]


def test_another_identity_that_pretends_to_the_same_start_has_keys_of_its_own() -> None:
    exchange, one, other = two()
    other.leave()
    exchange.run()
    again = exchange.add(member_config(2, identity=b"another identity of 32 octets!!!"))
    exchange.run(11.0)
    one.send(packet := ipv6("bbbb::1", "bbbb::2"))
    exchange.run()
    assert again.packets == [packet]


def test_a_new_identity_under_a_name_is_not_taken_while_the_known_one_answers() -> None:
    exchange, one, other = two()
    forger = Secrets(member_config(2, identity=b"somebody else's identity octets!"))
    hello = other.member._announcer.hello
    for sequence in range(30):
        signed = hello._replace(
            key=forger.public, agreement_key=forger.agreement_public, instance=b"forged-1", sequence=sequence
        ).encode()
        exchange.say("tumpline.hello.m2", encode_signed_hello(signed, forger.prove(signed)))
        exchange.run(1.0)
    assert one.member.snapshot(exchange.now)["members"][0]["identity"] == other.member.identity.hex()
    assert departures(one) == []


def test_a_message_that_comes_back_says_that_the_member_is_gone() -> None:
    exchange, one, other = two()
    other.drop()
    one.send(ipv6("bbbb::1", "bbbb::2"))
    exchange.run()
    assert (names(one, exchange.now), departures(one)) == ([], [Departure.RETURNED])
    other.join()
    exchange.run()
    assert names(one, exchange.now) == ["m2"]


def test_without_a_connection_nobody_is_known_and_after_it_everybody() -> None:
    exchange, one, _ = two()
    one.drop()
    assert names(one, exchange.now) == []
    one.join()
    exchange.run()
    assert names(one, exchange.now) == ["m2"]
    assert [type(event) for event in one.events] == [MemberJoined, MemberLeft, MemberJoined]


def test_addresses_that_change_are_announced() -> None:
    exchange, one, other = two()
    other.member.set_addresses((claim("bbbb::99/64"),), exchange.now)
    other.drain()
    exchange.run()
    one.send(packet := ipv6("bbbb::1", "bbbb::99"))
    exchange.run()
    assert other.packets == [packet]
    assert [event.name for event in one.events if isinstance(event, MemberChanged)] == ["m2"]


def test_two_members_with_one_address_are_told_of_once() -> None:
    exchange = Exchange()
    one, other, third = (
        exchange.add(member_config(number, addresses=(claim(text), claim("::/0"))))
        for number, text in ((1, "bbbb::1/64"), (2, "bbbb::1/64"), (3, "bbbb::3/64"))
    )
    exchange.run(25.0)
    address = claim("bbbb::1/64").address
    told = [[event for event in each.events if isinstance(event, AddressConflict)] for each in (one, other, third)]
    assert told[0] == [AddressConflict("m2", "m1", address)]
    assert told[1] == [AddressConflict("m1", "m2", address)], "each has its own"
    assert len(told[2]) == 1
    third.send(packet := ipv6("bbbb::3", "bbbb::1"))
    exchange.run()
    assert sorted([one.packets, other.packets]) == [[], [packet]], "one has it, not both"


def test_somebody_who_asks_again_and_again_is_answered_once_a_second() -> None:
    exchange, _, _ = two(formats=(Format.BINARY,))
    exchange.run(10.5)
    before = len(hellos_of(exchange, "m1"))
    for _ in range(100):
        exchange.say("tumpline.who", b"x")
        exchange.run(0.05)
    assert len(hellos_of(exchange, "m1")) - before <= 4 + 6 + 1


def test_a_crowd_of_strangers_fills_no_memory() -> None:
    exchange, one, _ = two()
    for number in range(300):
        body = b'{"_api_version": "1.2.15", "data": [96, 0], "interface_name": "tun0", "timestamp": 1}'
        exchange.say(
            f"fromAgent.x{number}.ip.tun.packet.raw", body.replace(b"[96, 0]", str(list(ipv6("::1", "::2"))).encode())
        )
    assert len(one.member.snapshot(exchange.now)["members"]) == 1 + 256
