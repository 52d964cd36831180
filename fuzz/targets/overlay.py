"""A member of a packet overlay: whatever strangers publish, and what a member says that has the key and means no good."""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.harness import Target
from tumpline.machines.overlay import Member, MemberConfig, Message, Publish, ToPort
from tumpline.machines.overlay.sealing import Secrets
from tumpline.machines.packets import PacketKind, batch_of
from tumpline.testing.overlay_exchange import claim, ipv6
from tumpline.testing.overlay_world.scenario import sizes_of
from tumpline.wire.agent_json import ControlKind, Tun, encode_control
from tumpline.wire.overlay import Hello, decode_key_untrusted, encode_signed_hello
from tumpline.wire.packet_json import Generation, Kind, Packet, encode_packet

_KEY = bytes(range(32))
_MESSAGES_MOST = 64  # of one input
_PACKET = ipv6("bbbb::2", "bbbb::1", b"hello")
# How a message comes: as it stands, as an announcement that is proven, sealed.
_RAW, _PROVEN, _SEALED = range(3)


def _config(name: str, number: int) -> MemberConfig:
    return MemberConfig(name, bytes([number] * 8), bytes(32), given_key=_KEY, addresses=(claim(f"bbbb::{number}/64"),))


_OTHER = Secrets(_config("o", 2))
_ME = Secrets(_config("m", 1))


def _hello(name: str, number: int, secrets: Secrets) -> Hello:
    config = _config(name, number)
    return Hello(name, config.instance, 1, secrets.mode, secrets.key, addresses=config.addresses)


_SEALER = _OTHER.keys_with(_hello("m", 1, _ME)).sealer


def _said(how: int, key: str, body: bytes) -> bytes:
    return bytes((how, len(key))) + key.encode() + len(body).to_bytes(2, "big") + body


def seeds() -> list[bytes]:
    """Announcements, sealed batches, and what older agents say."""
    hello = _hello("p", 3, _OTHER)
    batch = bytes(batch_of(PacketKind.IP, [_PACKET, _PACKET]).octets)
    started = encode_control(ControlKind.TUN_STARTED, Tun("x", "bbbb", ":7"), Generation.V1)
    packets = [encode_packet(Packet(_PACKET, "tun0", 1.0), generation, Kind.INJECT) for generation in Generation]
    return [
        _said(_PROVEN, "tumpline.hello.p", hello.encode())
        + _said(_PROVEN, "tumpline.hello.p", hello._replace(sequence=2, is_leaving=True).encode()),
        _said(_SEALED, "tumpline.packet.m.o", b"\0" + batch) + _said(_SEALED, "tumpline.packet.m.o", b"\x81" + batch),
        _said(_SEALED, "tumpline.bundle.m.o", b"\2a piece of a bundle"),
        _said(_RAW, "toAgent.m.ip.tun.packet.raw", packets[1]) + _said(_RAW, "data.tun.toAgent.m", packets[0]),
        _said(_RAW, "fromAgent.x.ip.tun.started", started) + _said(_RAW, "fromAgent.x.ip.tun.packet.raw", packets[1]),
        _said(_RAW, "tumpline.who", b"x") + _said(_RAW, "tumpline.flood.o", bytes(40)),
    ]


def _messages(data: bytes) -> Iterator[Message]:
    at = 0
    for _ in range(_MESSAGES_MOST):
        if len(data) - at < 4:
            return
        how, key_octets = data[at] % 3, data[at + 1]
        key = data[at + 2 : at + 2 + key_octets].decode("utf-8", "replace")
        at += 2 + key_octets
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + 2 + length]
        at += 2 + length
        yield Message(key, None, _body(how, key, body))


def _body(how: int, key: str, body: bytes) -> bytes:
    if how == _PROVEN:
        return encode_signed_hello(body, _OTHER.prove(body))
    if how == _SEALED and key.startswith("tumpline.") and body:
        return b"".join(_SEALER.seal(body[0], body[1:], decode_key_untrusted(key).associated))
    return body


def run(data: bytes) -> bool:
    """Nothing is raised, what is kept is bounded by what came, and the member does its work afterwards."""
    member = Member(_config("m", 1))
    member.joined(0.0)
    hello = _hello("o", 2, _OTHER).encode()
    member.received([Message("tumpline.hello.o", None, encode_signed_hello(hello, _OTHER.prove(hello)))], 0.0)
    messages = list(_messages(data))
    for number, message in enumerate(messages):
        member.received([message], number / 10)
    kept = sizes_of(member)
    assert sum(kept.values()) <= 8 + 80 * len(messages), f"unbounded: {kept}"
    for packet in (_PACKET, ipv6("bbbb::1", "bbbb::7"), ipv6("bbbb::1", "ff02::1")):
        member.from_port(batch_of(PacketKind.IP, [packet]), 7.0)
    member.handle_timeout(1e6)
    outputs = member.outputs()
    assert any(isinstance(output, Publish) for output in outputs), "it has fallen silent"
    assert sizes_of(member)["claims"] == 0 or sizes_of(member)["older"], "who is gone has still addresses"
    return any(isinstance(output, ToPort) for output in outputs)


# A packet's JSON is nine times as long as what it carries, and becomes a list of numbers on its way; the keys of one more
# member, and tables that Python makes at once, are the rest.
TARGET = Target("overlay", "what is said to a member of an overlay", seeds, run, peak_base=512 << 10, peak_factor=64)
