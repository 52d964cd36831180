"""What agents, members and other routers say to a packet router: any keys, any bodies."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from fuzz.harness import Target
from tumpline.machines.overlay import MemberConfig, Message
from tumpline.machines.packet_router import PacketRouter, RouterConfig
from tumpline.wire.agent_json import Component, Control, ControlKind, LossyLink, Serial, Tun, encode_control
from tumpline.wire.packet_json import Generation, Packet, encode_packet
from tumpline.wire.router_talk import Learned, Older, Said, Talk

_MESSAGES_MOST = 16
_SHARE = "tumpline.router.shard.0"
_HOSTS = [bytes.fromhex("bbbb0000000000000000000000000001"), bytes.fromhex("bbbb0000000000000000000000000002")]
_PACKET = b"\x60\0\0\0\0\0\x3b\x40" + _HOSTS[0] + _HOSTS[1]
_CONTROL: list[tuple[ControlKind, Control]] = [
    (ControlKind.TUN_STARTED, Tun("x", "bbbb", ":7")),
    (ControlKind.SERIAL_STARTED, Serial("x", "p", "1")),
]


def _said(key: str, body: bytes) -> bytes:
    """One message of an input: a key and a body, each behind its length."""
    name = key.encode()
    return bytes([len(name)]) + name + len(body).to_bytes(2, "big") + body


def seeds() -> list[bytes]:
    """Packets of both generations, what agents say when they start, sealed batches, routers among themselves."""
    packets = {generation: encode_packet(Packet(_PACKET, "tun0", 1.0), generation) for generation in Generation}
    first, second = packets[Generation.V1], packets[Generation.V0]
    told = [encode_control(kind, body, generation) for kind, body in _CONTROL for generation in Generation]
    learned, agents = (Learned(_HOSTS[1], "b", True),), (Older("b", Generation.V0, (0,)),)
    talks = [Talk(said, "r2", "x", "1 share", (_SHARE,), _SHARE, learned, agents).encode() for said in Said]
    ready = encode_control(ControlKind.COMPONENT_SHUTDOWN, Component("x", "gone"), Generation.V0)
    lossy = encode_control(ControlKind.LOSSY_LINK_START, LossyLink(2), Generation.V1)
    return [
        _said("fromAgent.a.ip.tun.packet.raw", first) + _said("data.tun.fromAgent.b", second),
        _said("fromAgent.a.802154.serial.packet.raw", first) + _said("data.serial.fromAgent.b", second),
        _said("fromAgent.x.ip.tun.started", told[1]) + _said("control.tun.fromAgent.y", told[0]),
        _said("fromAgent.x.802154.serial.started", told[3]) + _said("control.session", ready),
        _said("tumpline.via.b.a", b"\x01\x02\x00" + bytes(40))
        + _said("tumpline.packet.r.a", b"\x01\x02\x00" + bytes(40)),
        _said("routing.lossy.link.start", lossy) + _said("fromAgent.a.ip.tun.packet.raw", first),
        b"".join(_said("tumpline.router.r2", talk) for talk in talks),
    ]


def _messages(data: bytes) -> Iterator[Message]:
    at = 0
    for _ in range(_MESSAGES_MOST):
        if len(data) - at < 3:
            return
        key = data[at + 1 : at + 1 + data[at]].decode("utf-8", "replace")
        at += 1 + data[at]
        length = int.from_bytes(data[at : at + 2], "big")
        yield Message(key, None, data[at + 2 : at + 2 + length])
        at += 2 + length


def run(data: bytes) -> bool:
    """Nothing is raised, what is kept is bounded by what came, and the router does its work afterwards."""
    router = PacketRouter(RouterConfig(MemberConfig("r", bytes(8), bytes(32))), Random(1).random)
    router.joined(0.0)
    router.subscribed(_SHARE)
    router.outputs()
    messages = list(_messages(data))
    for number, message in enumerate(messages):
        router.told([message], number / 10)
        router.packets(_SHARE, [message], number / 10)
    has_heard = bool(router.directory.agents)
    # A message about 1024 addresses is as long as it says; each takes one route.
    assert len(router.directory.agents) <= 2 * len(data), "agents that nobody named"
    assert len(router.directory.routes) <= 2 * len(data), "addresses that nobody named"
    router.outputs()
    router.handle_timeout(1e6)
    assert router.outputs(), "it has fallen silent"
    assert not router.directory.agents, "who is gone is still there"
    return has_heard


# A packet's JSON is nine times as long as what it carries, and becomes a list of numbers on its way; tables that Python
# makes at once are the rest.
TARGET = Target("packet_router", "what is said to a packet router", seeds, run, peak_base=512 << 10, peak_factor=64)
