"""The router among members of all formats and older agents, on an exchange in memory."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import pytest
from tests.machines.packet_router.packets import body, config

from tumpline.machines.impairment import Impairment
from tumpline.machines.overlay import Message, Publish, Via
from tumpline.machines.packet_router import PacketRouter, RouterConfig, Subscribe
from tumpline.testing.overlay_exchange import Exchange, Station, ipv6, member_config
from tumpline.wire.agent_json import ControlKind, Tun, encode_control
from tumpline.wire.overlay import Format
from tumpline.wire.packet_json import Generation, decode_packet_untrusted

FORMATS = {"auto": tuple(Format), "binary": (Format.BINARY,), "v1": (Format.V1,), "v0": (Format.V0,)}
PING, PONG = ipv6("bbbb::1", "bbbb::2", b"ping"), ipv6("bbbb::2", "bbbb::1", b"pong")
TO_ALL = ipv6("bbbb::1", "ff02::1", b"all")


class Routed(Exchange):
    """A session with a router."""

    def __init__(self, impairment: Impairment | None = None, **member: Any) -> None:
        super().__init__()
        self.router = PacketRouter(RouterConfig(config("router", **member), impairment=impairment), Random(1).random)
        for key in self.router.bindings:
            self.topics.bind(key, "router")
        self.listeners["router"] = lambda message: self._told.append(message)
        self.listeners["share"] = lambda message: self._shared.append(message)
        self._told: list[Message] = []
        self._shared: list[Message] = []
        self.router.joined(self.now)
        self.serve()

    def serve(self) -> None:
        """Let the router work until nothing is left to do."""
        while True:
            self.run()
            told, shared = self._told.copy(), self._shared.copy()
            self._told.clear()
            self._shared.clear()
            self.router.told(told, self.now)
            if shared:
                self.router.packets("tumpline.router.shard.0", shared, self.now)
            outputs = self.router.outputs()
            for output in outputs:
                self._perform(output)
            if not (outputs or told or shared):
                return

    def _perform(self, output: Any) -> None:
        if isinstance(output, Publish):
            message = Message(output.routing_key, output.properties, b"".join(output.pieces))
            if not self.publish("router", message) and output.is_mandatory:
                self.router.returned(output.routing_key, self.now)
        elif isinstance(output, Subscribe):
            for key in output.patterns:
                self.topics.bind(key, "share")
            self.router.subscribed(output.share)

    def send(self, station: Station, *packets: bytes) -> None:
        station.send(*packets)
        self.serve()


class Older:
    """An older agent, bbbb::9."""

    def __init__(self, exchange: Routed, generation: Generation) -> None:
        self.packets: list[bytes] = []
        self._exchange, self._generation = exchange, generation
        first = generation is Generation.V1
        self._from = "fromAgent.old.ip.tun.packet.raw" if first else "data.tun.fromAgent.old"
        exchange.listen("old", "toAgent.old.ip.tun.packet.raw" if first else "data.tun.toAgent.old", self._hear)
        told = encode_control(ControlKind.TUN_STARTED, Tun("old", "bbbb", "9"), generation)
        exchange.publish(
            "old", Message("fromAgent.old.ip.tun.started" if first else "control.tun.fromAgent.old", None, told)
        )
        exchange.serve()

    def send(self, packet: bytes) -> None:
        self._exchange.publish("old", Message(self._from, None, body(packet, self._generation)))
        self._exchange.serve()

    def _hear(self, message: Message) -> None:
        packet, generation, _ = decode_packet_untrusted(message.body)
        assert generation is self._generation
        self.packets.append(packet.data)


def two(first: str, second: str, **values: Any) -> tuple[Routed, Station, Station]:
    exchange = Routed()
    one = exchange.add(member_config(1, formats=FORMATS[first], **values))
    other = exchange.add(member_config(2, formats=FORMATS[second], **values))
    exchange.serve()
    return exchange, one, other


@pytest.mark.parametrize(("first", "second"), product(FORMATS, FORMATS))
@pytest.mark.parametrize("via", [Via.AUTO, Via.ROUTER])
def test_every_pair_of_members(first: str, second: str, via: Via) -> None:
    exchange, one, other = two(first, second, via=via)
    exchange.send(one, PING)
    exchange.send(other, PONG)
    exchange.send(one, TO_ALL)
    assert (other.packets, one.packets) == ([PING, TO_ALL], [PONG])


@pytest.mark.parametrize(("format_", "generation"), product(FORMATS, Generation))
def test_every_member_and_an_older_agent(format_: str, generation: Generation) -> None:
    exchange = Routed()
    one = exchange.add(member_config(1, formats=FORMATS[format_]))
    exchange.serve()
    older = Older(exchange, generation)
    there, back = ipv6("bbbb::1", "bbbb::9", b"ping"), ipv6("bbbb::9", "bbbb::1", b"pong")
    exchange.send(one, there, TO_ALL)
    older.send(back)
    exchange.send(one, there)
    older.send(ipv6("bbbb::9", "ff02::1"))
    assert older.packets == [there, TO_ALL, there]
    assert one.packets == [back, ipv6("bbbb::9", "ff02::1")]


@pytest.mark.parametrize("key", [None, bytes(32)])
def test_a_mixed_session_without_copies(key: bytes | None) -> None:
    exchange = Routed(given_key=key)
    stations = [
        exchange.add(member_config(number, formats=formats, given_key=key))
        for number, formats in enumerate(FORMATS.values(), 1)
    ]
    exchange.serve()
    older = Older(exchange, Generation.V1)
    for station, other in product(stations, stations):
        if station is not other:
            exchange.send(station, ipv6(address(station), address(other), b"to one"))
    for station in stations:
        exchange.send(station, ipv6(address(station), "ff02::1", b"to all"))
    for station in stations:
        others = [address(other) for other in stations if other is not station]
        wanted = [ipv6(other, address(station), b"to one") for other in others]
        wanted += [ipv6(other, "ff02::1", b"to all") for other in others]
        assert sorted(station.packets) == sorted(wanted), station.name
    assert sorted(older.packets) == sorted(ipv6(address(station), "ff02::1", b"to all") for station in stations)


def test_only_one_of_several_routers_opens_what_was_sent_to_all() -> None:
    exchange = Routed(given_key=bytes(32))
    sender = exchange.add(member_config(1, formats=FORMATS["binary"], given_key=bytes(32)))
    exchange.serve()
    older = Older(exchange, Generation.V1)
    rivals = [f"rival{number}" for number in range(8)]
    for rival in rivals:
        said = b'{"version":1,"said":"here","router":"%b","instance":"x"}' % rival.encode()
        exchange.router.told([Message(f"tumpline.router.{rival}", None, said)], exchange.now)
    exchange.send(sender, TO_ALL)
    assert older.packets == [], "by hashing another one of nine does it"


def test_what_a_member_sends_by_way_of_the_router_is_impaired() -> None:
    exchange = Routed(Impairment(delay_s=1.0))
    one = exchange.add(member_config(1, via=Via.ROUTER))
    other = exchange.add(member_config(2, via=Via.ROUTER))
    exchange.serve()
    exchange.send(one, PING)
    assert other.packets == []
    exchange.now += 1.0
    exchange.router.handle_timeout(exchange.now)
    exchange.serve()
    assert other.packets == [PING]


def test_a_member_without_the_key_is_not_believed() -> None:
    exchange = Routed(given_key=bytes(32))
    exchange.add(member_config(1, given_key=b"\x01" * 32))
    exchange.serve()
    assert not exchange.router.directory.agents


def test_a_broken_seal_is_counted() -> None:
    exchange, one, _ = two("binary", "v1")
    exchange.publish("m1", Message("tumpline.packet.router.m1", None, b"\x01\x02\x00" + bytes(60)))
    exchange.publish(
        "m1", Message("tumpline.packet.router.m1", None, b"\x01\x02\x00" + one.member.config.instance + bytes(60))
    )
    exchange.publish("m1", Message("tumpline.packet.router.m1", None, b"?"))
    exchange.serve()
    counters = exchange.router.passing.counters
    assert (counters.unopened, counters.malformed) == (2, 1)


def address(station: Station) -> str:
    return f"bbbb::{station.name[1:]}"
