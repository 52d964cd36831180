"""The older agents of the test kit among themselves: what they are measured by when ours is among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from tumpline.testing.embedded_broker import embedded_broker
from tumpline.testing.older_members import OlderMember, OlderRouter, Plan
from tumpline.testing.pings import Echo, decode_echo, encode_echo, reply_to
from tumpline.wire.agent_json import ControlKind, Tun, decode_control_untrusted, encode_control
from tumpline.wire.packet_json import Generation, Kind, Packet, decode_packet_untrusted, encode_packet


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with embedded_broker() as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.port}/"


LINK = ("agent_1", "agent_2")


def pinging(url: str, generation: int, link: tuple[str, str]) -> list[Echo]:
    one, two = (Plan(name, number, generation) for number, name in enumerate(link, 1))
    with OlderRouter(url, [link]), OlderMember(url, one) as asking, OlderMember(url, two):
        asking.ping("bbbb::2", 7)
        asking.ping("10.2.0.2", 8)
        return [asking.next_echo(), asking.next_echo()]


@pytest.mark.parametrize("generation", [0, 1])
async def test_two_ping_each_other_by_their_router(url: str, generation: int) -> None:
    echoes = await asyncio.to_thread(pinging, url, generation, LINK)
    assert [(echo.is_reply, str(echo.source), echo.sequence) for echo in echoes] == [
        (True, "bbbb::2", 7),
        (True, "10.2.0.2", 8),
    ]


def routed_frame(url: str) -> list[dict[str, object]]:
    plans = [Plan(name, generation=1, is_serial=True) for name in LINK]
    with OlderRouter(url, [LINK]), OlderMember(url, plans[0]) as one, OlderMember(url, plans[1]) as two:
        one.send(b"\x41\x88\xc0\xdb")
        return [two.next_packet().body]


async def test_a_frame_loses_its_slip_octets_on_the_way(url: str) -> None:
    (body,) = await asyncio.to_thread(routed_frame, url)
    assert body["data"] == [0x41, 0x88, 0xC0, 0xDB]
    assert "data_slip" not in body


def dropped(url: str) -> int:
    with (
        OlderRouter(url, [LINK]) as router,
        OlderMember(url, Plan("agent_1")) as one,
        OlderMember(url, Plan("agent_2", 2)),
    ):
        one.publish("routing.lossy.link.start", {"number_of_packets_to_drop": 2})
        for sequence in range(1, 5):
            one.ping("bbbb::2", sequence)
        first = one.next_echo().sequence
        assert router.to_drop == 0
        return first


async def test_a_lossy_link_drops_the_next_packets(url: str) -> None:
    assert await asyncio.to_thread(dropped, url) == 3


def started_again(url: str) -> dict[str, object]:
    with OlderMember(url, Plan("agent_1")) as one, OlderMember(url, Plan("agent_TT", 3)) as coordinator:
        coordinator.publish("toAgent.agent_1.ip.tun.start", {"ipv6_prefix": "bbbb", "ipv6_host": ":1"})
        while one.heard.get(timeout=10).routing_key != "toAgent.agent_1.ip.tun.start":
            pass
    return one.plan.started()[1]


async def test_an_agent_is_asked_to_start(url: str) -> None:
    assert (await asyncio.to_thread(started_again, url))["ipv6_host"] == "1"


def test_our_codecs_and_their_json_agree() -> None:
    """What the members write by hand is what ours writes."""
    plan = Plan("agent_1", 3)
    tun = Tun(**plan.started()[1])
    for generation in Generation:
        body = encode_control(ControlKind.TUN_STARTED, tun, generation)
        kind = ControlKind.TUN_STARTED if generation is Generation.V1 else None
        assert decode_control_untrusted(body, kind).body == tun
    packet = Packet(b"\x60\0\0\0", "tun0", 7.0)
    assert decode_packet_untrusted(encode_packet(packet, Generation.V0, Kind.INJECT))[0] == packet


@pytest.mark.parametrize(("source", "destination"), [("bbbb::1", "bbbb::2"), ("10.2.0.1", "10.2.0.2")])
def test_pings(source: str, destination: str) -> None:
    echo = Echo(ip_address(source), ip_address(destination), False, 1, 2, b"odd")
    packet = encode_echo(echo)
    assert decode_echo(packet) == echo
    assert reply_to(packet, frozenset()) is None
    answer = reply_to(packet, frozenset((echo.destination,)))
    assert answer is not None
    assert decode_echo(answer) == echo._replace(source=echo.destination, destination=echo.source, is_reply=True)
    assert decode_echo(packet[:-1] + b"D") is None
