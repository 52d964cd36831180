"""The main ways of a packet, member to member."""

from __future__ import annotations

import pytest

from tumpline.errors import ConfigError
from tumpline.machines.overlay import BundleMessage, Member, MemberConfig, MemberJoined, MemberLeft
from tumpline.testing.overlay_exchange import Exchange, Station, claim, ipv6
from tumpline.testing.overlay_exchange import member_config as config
from tumpline.wire.overlay import Format

KEY = bytes(range(32))


def joined(exchange: Exchange, *configs: MemberConfig) -> list[Station]:
    stations = [exchange.add(one) for one in configs]
    exchange.run()
    return stations


@pytest.mark.parametrize("given", [KEY, None], ids=["given", "identities"])
def test_a_packet_goes_to_the_owner_of_its_address_and_to_nobody_else(given: bytes | None) -> None:
    exchange = Exchange()
    one, two, three = joined(exchange, *(config(number, given_key=given) for number in (1, 2, 3)))
    mark = len(exchange.published)
    packet = ipv6("bbbb::1", "bbbb::2", b"hello")
    one.send(packet)
    exchange.run()
    assert (two.packets, three.packets) == ([packet], [])
    assert exchange.keys_since(mark) == ["tumpline.packet.m2.m1"]
    assert packet not in exchange.published[-1].message.body


@pytest.mark.parametrize("given", [KEY, None], ids=["given", "identities"])
def test_what_is_for_many_reaches_all_once(given: bytes | None) -> None:
    exchange = Exchange()
    one, *others = joined(exchange, *(config(number, given_key=given) for number in (1, 2, 3)))
    packets = [ipv6("bbbb::1", "ff02::1", b"all"), ipv6("bbbb::1", "bbbb::99", b"who has it?")]
    one.send(*packets)
    exchange.run()
    assert [other.packets for other in others] == [packets, packets]
    assert one.packets == []


@pytest.mark.parametrize("given", [KEY, None], ids=["given", "identities"])
def test_who_takes_bundles_only_hears_of_no_packets(given: bytes | None) -> None:
    exchange = Exchange()
    node = config(3, given_key=given, kinds=(), formats=(Format.BINARY,), addresses=(), node_id="dtn://three/")
    one, two, three = joined(exchange, config(1, given_key=given), config(2, given_key=given), node)
    mark = len(exchange.published)
    one.send(ipv6("bbbb::1", "ff02::1"))
    exchange.run()
    assert (len(two.packets), three.packets) == (1, [])
    assert not [key for key in exchange.keys_since(mark) if "m3" in key]
    assert "m3" in [peer["name"] for peer in one.member.snapshot(exchange.now)["members"]]
    assert one.member.send_bundle_message("m3", b"still there", exchange.now)


@pytest.mark.parametrize("spoken", [Format.V1, Format.V0])
def test_the_older_formats_both_ways(spoken: Format) -> None:
    exchange = Exchange()
    one, two = joined(exchange, config(1), config(2, formats=(spoken,)))
    there, back = ipv6("bbbb::1", "bbbb::2", b"there"), ipv6("bbbb::2", "bbbb::1", b"back")
    mark = len(exchange.published)
    one.send(there)
    two.send(back)
    exchange.run()
    assert (two.packets, one.packets) == ([there], [back])
    assert all("toAgent" in key for key in exchange.keys_since(mark))


def test_packets_of_one_batch_for_several_members_arrive_in_order() -> None:
    exchange = Exchange()
    one, two, three = joined(exchange, *(config(number) for number in (1, 2, 3)))
    packets = [ipv6("bbbb::1", f"bbbb::{2 + number % 2}", bytes([number])) for number in range(20)]
    mark = len(exchange.published)
    one.send(*packets)
    exchange.run()
    assert (two.packets, three.packets) == (packets[::2], packets[1::2])
    assert sorted(exchange.keys_since(mark)) == ["tumpline.packet.m2.m1", "tumpline.packet.m3.m1"]


def test_who_is_there_and_who_has_gone_is_told() -> None:
    exchange = Exchange()
    one, two = joined(exchange, config(1), config(2))
    assert [event.name for event in one.events if isinstance(event, MemberJoined)] == ["m2"]
    two.leave()
    exchange.run()
    assert [event.name for event in one.events if isinstance(event, MemberLeft)] == ["m2"]
    one.send(ipv6("bbbb::1", "bbbb::2"))
    assert one.member.snapshot(exchange.now)["members"] == []


def test_secrets_are_not_shown() -> None:
    shown = repr(config(1, given_key=b"s3cret" * 6)) + str(config(1, identity=b"s3cret" * 6))
    assert shown == "MemberConfig('m1')" * 2


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": "a.b"}, "cannot stand in a name"),
        ({"given_key": b"short"}, "openssl rand"),
        ({"identity": b""}, "needs 32 octets"),
        ({"pins": {"m2": b"short"}}, "peer m2"),
        ({"formats": ()}, "write auto"),
        ({"addresses": (claim("bbbb::1/64"),) * 65}, "too many"),
    ],
)
def test_what_cannot_be_is_said(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Member(config(1, **wrong))


def test_a_piece_of_a_bundle_goes_sealed_to_one_member() -> None:
    exchange = Exchange()
    one, two = joined(exchange, config(1), config(2, node_id="dtn://two/"))
    assert one.member.send_bundle_message("m2", b"a piece", exchange.now)
    assert not one.member.send_bundle_message("m9", b"a piece", exchange.now)
    one.drain()
    exchange.run()
    assert [event for event in two.events if isinstance(event, BundleMessage)] == [
        BundleMessage("m1", memoryview(b"a piece"))
    ]
