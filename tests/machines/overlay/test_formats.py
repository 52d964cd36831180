"""Who hears whom: every pair of formats, with older agents, without a router, with ours and with an older one."""

from __future__ import annotations

from itertools import product
from struct import pack

import pytest

from tumpline.machines.overlay import (
    BindingsChanged,
    ControlReceived,
    MemberJoined,
    MemberLeft,
    Message,
    ToPort,
    Via,
)
from tumpline.machines.packets import NO_OFFLOAD, PacketBatch, PacketKind
from tumpline.testing.overlay_exchange import Exchange, Station, claim, ipv6, member_config
from tumpline.wire.agent_json import ControlKind, Tun, encode_control
from tumpline.wire.overlay import Format, Role
from tumpline.wire.packet_json import Generation, Kind, Packet, decode_packet_untrusted, encode_packet
from tumpline.wire.virtio_net import NEEDS_CSUM, GsoType, Offload

ALL = tuple(Format)
FORMATS = {"auto": ALL, "binary": (Format.BINARY,), "v1": (Format.V1,), "v0": (Format.V0,)}
PING, PONG = ipv6("bbbb::1", "bbbb::2", b"ping"), ipv6("bbbb::2", "bbbb::1", b"pong")
TO_ALL = ipv6("bbbb::1", "ff02::1", b"all")


def two(first: str, second: str) -> tuple[Exchange, Station, Station]:
    exchange = Exchange()
    one = exchange.add(member_config(1, formats=FORMATS[first]))
    other = exchange.add(member_config(2, formats=FORMATS[second]))
    exchange.run()
    return exchange, one, other


class OlderAgent:
    """As agents of one generation behave: it hears what is for it, and says all to everybody."""

    def __init__(self, exchange: Exchange, generation: Generation = Generation.V1, name: str = "old") -> None:
        self.generation, self.name, self.packets = generation, name, list[bytes]()
        self._exchange = exchange
        v1 = generation is Generation.V1
        self._from = f"fromAgent.{name}.ip.tun.packet.raw" if v1 else f"data.tun.fromAgent.{name}"
        self._to = f"toAgent.{name}.ip.tun.packet.raw" if v1 else f"data.tun.toAgent.{name}"
        self._started = f"fromAgent.{name}.ip.tun.started" if v1 else f"control.tun.fromAgent.{name}"
        exchange.listen(f"queue of {name}", self._to, self._hear)

    def start(self) -> None:
        """Say that the interface is open, with bbbb::9."""
        tun = Tun(name=self.name, ipv6_prefix="bbbb", ipv6_host=":9")
        self._exchange.say(self._started, encode_control(ControlKind.TUN_STARTED, tun, self.generation))

    def send(self, packet: bytes) -> None:
        body = encode_packet(Packet(packet, "tun0", 1.0), self.generation)
        self._exchange.say(self._from, body)

    def go(self) -> None:
        self._exchange.topics.unbind(self._to, f"queue of {self.name}")

    def _hear(self, message: Message) -> None:
        packet, generation, kind = decode_packet_untrusted(message.body)
        assert message.properties is not None
        assert message.properties.content_type == "application/json"
        assert generation is self.generation
        if generation is Generation.V0:
            assert kind is Kind.INJECT, "agents of version 0 pass over everything else"
        self.packets.append(packet.data)


@pytest.mark.parametrize(("first", "second"), product(FORMATS, FORMATS))
def test_every_pair_of_members_without_a_router(first: str, second: str) -> None:
    exchange, one, other = two(first, second)
    one.send(PING, TO_ALL)
    other.send(PONG)
    exchange.run()
    can = set(FORMATS[first]) & set(FORMATS[second])
    # In the order of their formats: what is for one goes before or after what is for all.
    assert sorted(other.packets) == (sorted([PING, TO_ALL]) if can else [])
    assert one.packets == ([PONG] if can else [])
    nowhere = one.member.snapshot(exchange.now)["counters"]["nowhere"]
    assert nowhere == (0 if can else 1)


@pytest.mark.parametrize("generation", Generation)
def test_an_older_agent_is_a_member_that_is_known_by_what_it_says(generation: Generation) -> None:
    exchange, one, other = two("auto", "auto")
    old = OlderAgent(exchange, generation)
    old.start()
    one.send(packet := ipv6("bbbb::1", "bbbb::9"), TO_ALL)
    exchange.run()
    assert old.packets == [packet, TO_ALL]
    assert other.packets == [TO_ALL]
    old.send(back := ipv6("bbbb::9", "bbbb::1"))
    assert (one.packets, other.packets) == ([back], [TO_ALL])
    assert MemberJoined("old", None) in one.events
    assert [type(event) for event in one.events if isinstance(event, ControlReceived)] == [ControlReceived]


@pytest.mark.parametrize("generation", Generation)
def test_the_address_of_an_older_agent_is_learned_and_forgotten_in_time(generation: Generation) -> None:
    exchange, one, _ = two("auto", "binary")
    old = OlderAgent(exchange, generation)
    old.send(ipv6("bbbb::77", "bbbb::1"))
    mark = len(exchange.published)
    one.send(packet := ipv6("bbbb::1", "bbbb::77"))
    exchange.run()
    assert (old.packets, len(exchange.keys_since(mark))) == ([packet], 1)
    exchange.run(301.0)
    mark = len(exchange.published)
    one.send(packet)
    exchange.run()
    assert len([key for key in exchange.keys_since(mark) if key.startswith("tumpline.")]) == 1, (
        "flooded: it may have moved"
    )
    assert old.packets == [packet, packet]


def test_an_older_agent_that_is_gone_leaves_nothing_behind() -> None:
    exchange, one, _ = two("auto", "auto")
    old = OlderAgent(exchange)
    old.start()
    old.go()
    exchange.run(10.0)  # that it has just started would be a reason to wait for its queue
    one.send(ipv6("bbbb::1", "bbbb::9"))
    exchange.run()
    assert "old" in [event.name for event in one.events if isinstance(event, MemberLeft)]
    mark = len(exchange.published)
    one.send(ipv6("bbbb::1", "bbbb::9"))
    exchange.run()
    assert not any("old" in key for key in exchange.keys_since(mark))


def test_an_older_agent_whose_queues_are_gone_is_gone() -> None:
    exchange, one, _ = two("auto", "auto")
    OlderAgent(exchange).start()
    assert one.member.older_names() == ("old",)
    for name in ("m2", "nobody", "old"):
        one.member.older_gone(name, exchange.now)
    assert one.member.older_names() == ()
    assert [member["name"] for member in one.member.snapshot(exchange.now)["members"]] == ["m2"]


def test_an_older_agent_says_that_it_has_started_before_it_has_a_queue() -> None:
    exchange, one, _ = two("auto", "auto")
    old = OlderAgent(exchange)
    old.start()
    old.go()
    one.send(ipv6("bbbb::1", "bbbb::9", b"too early"))
    exchange.run()
    old = OlderAgent(exchange)
    packet = ipv6("bbbb::1", "bbbb::9", b"in time")
    one.send(packet)
    exchange.run()
    assert old.packets == [packet]
    assert not [event for event in one.events if isinstance(event, MemberLeft)]


def test_what_an_older_agent_says_of_a_members_address_is_not_believed() -> None:
    exchange, one, other = two("auto", "auto")
    old = OlderAgent(exchange)
    tun = Tun(name="old", ipv6_prefix="bbbb", ipv6_host=":2")
    exchange.say("fromAgent.old.ip.tun.started", encode_control(ControlKind.TUN_STARTED, tun, Generation.V1))
    old.send(ipv6("bbbb::1", "bbbb::1"))
    one.send(PING)
    exchange.run()
    assert (other.packets, old.packets) == ([PING], [])
    other.send(PONG)
    exchange.run()
    assert PONG in one.packets, "our own address stays our own"


def test_an_older_agent_that_is_replaced_by_a_member_of_ours_is_one_no_more() -> None:
    exchange, one, _ = two("auto", "auto")
    old = OlderAgent(exchange, name="m3")
    old.start()
    third = exchange.add(member_config(3))
    exchange.run()
    one.send(packet := ipv6("bbbb::1", "bbbb::3"))
    exchange.run()
    assert (third.packets, old.packets) == ([packet], [])


def test_a_copy_by_an_older_router_is_not_delivered_twice() -> None:
    exchange, one, _ = two("auto", "auto")
    old = OlderAgent(exchange)

    def route(message: Message) -> None:
        exchange.publish("router", Message("toAgent.m1.ip.tun.packet.raw", None, message.body))

    exchange.listen("router", "fromAgent.old.ip.tun.packet.raw", route)
    old.send(PONG)
    assert one.packets == [PONG]
    exchange.run(0.5)
    old.send(PONG)
    assert one.packets == [PONG, PONG], "it said the same twice"


def test_an_older_router_is_given_what_it_passes_on() -> None:
    exchange, one, _ = two("auto", "binary")
    OlderAgent(exchange).start()
    one.member.older_router(True, exchange.now)
    exchange.listen("router", "fromAgent.m1.ip.tun.packet.raw", lambda _: None)
    mark = len(exchange.published)
    one.send(ipv6("bbbb::1", "bbbb::9"), PING, TO_ALL)
    exchange.run()
    assert sorted(exchange.keys_since(mark)) == [
        "fromAgent.m1.ip.tun.packet.raw",
        "fromAgent.m1.ip.tun.packet.raw",
        "tumpline.packet.m2.m1",
        "tumpline.packet.m2.m1",
    ]
    one.member.older_router(False, exchange.now)
    mark = len(exchange.published)
    one.send(ipv6("bbbb::1", "bbbb::9"))
    assert exchange.keys_since(mark) == ["toAgent.old.ip.tun.packet.raw"]


def test_a_router_of_ours_is_given_json_and_nobody_else_listens_to_it() -> None:
    exchange, one, _ = two("auto", "auto")
    assert "fromAgent.*.ip.tun.packet.raw" in one.member.bindings()
    router = exchange.add(member_config(7, role=Role.ROUTER, formats=(Format.BINARY,), addresses=(), kinds=()))
    exchange.run()
    changes = [event for event in one.events if isinstance(event, BindingsChanged)]
    assert changes == [BindingsChanged((), ("fromAgent.*.ip.tun.packet.raw", "data.tun.fromAgent.*"))]
    OlderAgent(exchange).start()
    mark = len(exchange.published)
    one.send(ipv6("bbbb::1", "bbbb::9"))
    assert exchange.keys_since(mark) == ["fromAgent.m1.ip.tun.packet.raw"]
    router.drop()
    one.send(ipv6("bbbb::1", "bbbb::9"))
    exchange.run()
    assert [event for event in one.events if isinstance(event, BindingsChanged)][1:] == [
        BindingsChanged(("fromAgent.*.ip.tun.packet.raw", "data.tun.fromAgent.*"), ())
    ]


def test_a_router_that_does_not_take_what_we_say_is_done_without_for_a_while() -> None:
    exchange, one, _ = two("auto", "auto")
    exchange.add(member_config(7, role=Role.ROUTER, formats=(Format.BINARY,), addresses=(), kinds=()))
    old = OlderAgent(exchange)
    old.start()
    packet = ipv6("bbbb::1", "bbbb::9")
    one.send(packet)
    exchange.run()
    assert old.packets == [], "nobody passed it on"
    for second in range(40):
        one.send(packet)
        exchange.run(1.0)
        if second == 25:
            assert len(old.packets) == 26
    assert 36 <= len(old.packets) <= 39, "it was tried again"
    assert [event.why for event in one.events if isinstance(event, MemberLeft)] == []


def test_a_member_that_seals_reaches_one_that_reads_json_through_a_router_that_opens() -> None:
    exchange, one, _ = two("binary", "v1")
    translator = member_config(7, role=Role.ROUTER, formats=(Format.BINARY,), addresses=(), is_translator=True)
    router = exchange.add(translator)
    exchange.run()
    one.send(PING, TO_ALL)
    exchange.run()
    assert sorted(router.packets) == sorted([PING, TO_ALL])
    exchange.run()
    assert router.member.send_to("m1", PacketBatch(PacketKind.IP, _record(PONG), 1), exchange.now)
    assert not router.member.send_to("m2", PacketBatch(PacketKind.IP, _record(PONG), 1), exchange.now)
    router.drain()
    exchange.run()
    assert one.packets == [PONG]


def test_by_way_of_the_router_or_not_at_all() -> None:
    exchange = Exchange()
    one, other = exchange.add(member_config(1, via=Via.ROUTER)), exchange.add(member_config(2))
    exchange.run()
    one.send(PING)
    exchange.run()
    assert (other.packets, one.member.counters.nowhere) == ([], 1)
    exchange.add(member_config(7, role=Role.ROUTER, formats=(Format.BINARY,), addresses=(), kinds=()))
    passed_on: list[bool] = []
    exchange.listen(
        "passing on",
        "tumpline.via.*.*",
        lambda message: passed_on.append(exchange.publish("m7", message._replace(routing_key="tumpline.packet.m2.m1"))),
    )
    exchange.run()
    mark = len(exchange.published)
    one.send(PING, TO_ALL)
    exchange.run()
    assert sorted(other.packets) == sorted([PING, TO_ALL])
    assert not [key for key in exchange.keys_since(mark) if key.startswith("tumpline.flood")]


def test_a_super_packet_is_taken_apart_for_who_reads_json() -> None:
    exchange, one, other = two("auto", "v1")
    payload = bytes(range(250)) * 10
    udp = pack(">HHHH", 1, 2, 8 + len(payload), 0) + payload
    packet = bytearray(ipv6("bbbb::1", "bbbb::2", udp))
    packet[6] = 17
    offload = Offload(NEEDS_CSUM, GsoType.UDP, 48, 1000, 40, 6).encode()
    one.member.from_port(PacketBatch(PacketKind.IP, _record(bytes(packet), offload), 1), exchange.now)
    one.drain()
    exchange.run()
    assert [len(each) for each in other.packets] == [1048, 1048, 548]
    assert b"".join(each[48:] for each in other.packets) == payload


def test_what_came_out_of_the_overlay_is_not_flooded_back_into_it() -> None:
    exchange, one, other = two("auto", "auto")
    mark = len(exchange.published)
    one.send(ipv6("bbbb::2", "bbbb::99"))
    assert (exchange.keys_since(mark), one.member.counters.hairpins) == ([], 1)
    one.send(ipv6("bbbb::1", "bbbb::99"))
    exchange.run()
    assert len(other.packets) == 1


def test_frames_are_heard_by_all_who_have_a_probe() -> None:
    exchange = Exchange()
    frame = bytes.fromhex("41d8 01 34 12 ff ff 02 00") + b"frame"
    one = exchange.add(member_config(1, kinds=(PacketKind.FRAME,), addresses=()))
    probes = [
        exchange.add(member_config(at, kinds=(PacketKind.FRAME,), addresses=(), formats=FORMATS[spoken]))
        for at, spoken in enumerate(FORMATS, 2)
    ]
    without = exchange.add(member_config(9))
    exchange.run()
    one.send(frame)
    exchange.run()
    assert [probe.packets for probe in probes] == [[frame]] * 4
    assert without.packets == []
    body = next(each.message.body for each in exchange.published if each.message.routing_key.startswith("fromAgent.m1"))
    assert decode_packet_untrusted(body)[0].slip == b"\xc0" + frame + b"\xc0"


def test_a_packet_for_another_member_that_is_overheard_is_dropped() -> None:
    exchange, one, other = two("auto", "auto")
    OlderAgent(exchange).send(PONG)
    assert (one.packets, other.packets) == ([PONG], [])
    assert other.member.counters.for_others == 1


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("tumpline.packet.m1.m2", b""),
        ("tumpline.packet.m1.m2", bytes(60)),
        ("tumpline.packet.m1.m2", bytes(400_000)),
        ("tumpline.hello.m2", b"\xff"),
        ("toAgent.m1.ip.tun.packet.raw", b'{"data": [300]}'),
        ("toAgent.m1.ip.tun.packet.raw", b"\xff\xfe"),
        ("toAgent.m1.ip.tun.packet.raw", b'{"data": [96]}'),
        ("toAgent.m1.ip.tun.packet.raw", b'{"data": [1, 2, 3]}'),
        ("data.tun.toAgent.m1", b'{"_type": "tun.start", "data": [1]}'),
        ("fromAgent.x.ip.tun.started", b"[]"),
        ("fromAgent.x.ip.tun.started", b'{"ipv6_prefix": "zz", "ipv6_host": "q"}'),
        ("toAgent.m1.ip.tun.start", b"x" * (65 << 10)),
    ],
)
def test_malformed_messages_are_counted_and_dropped(key: str, body: bytes) -> None:
    exchange, one, _ = two("auto", "auto")
    exchange.say(key, body)
    assert one.member.counters.malformed == 1
    assert one.packets == []


def test_a_stranger_who_seals_is_asked_who_it_is() -> None:
    exchange, one, _ = two("auto", "auto")
    exchange.run(10.0)
    mark = len(exchange.published)
    for _ in range(20):
        exchange.say("tumpline.packet.m1.nobody", b"\1\2\0" + bytes(60))
    assert one.member.counters.strangers == 20
    assert exchange.keys_since(mark).count("tumpline.who") == 2


def _record(packet: bytes, offload: bytes = NO_OFFLOAD) -> memoryview:
    return memoryview((len(packet) + len(offload)).to_bytes(4, "little") + offload + packet)


def test_a_member_does_not_read_what_it_said_itself() -> None:
    exchange, one, _ = two("auto", "v1")
    one.send(TO_ALL)
    exchange.run()
    assert one.packets == []
    assert not [output for output in one.member.outputs() if isinstance(output, ToPort)]
    assert claim("bbbb::1/64") in one.member.config.addresses
