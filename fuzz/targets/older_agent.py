"""What older packet agents say, and what strangers say in their place: packets, control messages, and keys."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.errors import MalformedError
from tumpline.machines.overlay.older import Bootstrap, OpenTun, Say, State
from tumpline.wire.agent_json import (
    Component,
    ControlKind,
    LossyLink,
    Serial,
    Tun,
    addresses,
    decode_control_untrusted,
    encode_control,
    network_behind,
)
from tumpline.wire.agent_keys import read_agent_key
from tumpline.wire.packet_json import Generation, Kind, Packet, decode_packet_untrusted, encode_packet

_TUN = Tun("agent_1", "bbbb", "1", False, "10.2.0.1", None, "10.2.0.0", "255.255.255.0", "eth1", "cccc", "2")
_PACKET = Packet(bytes((0x60, 0, 0, 0, 0, 0, 59, 64, *bytes(32))), "tun0", 1_795_223_949.5)
_FRAME = Packet(b"\x41\x88\x01", "serial", 7.0, b"\xc0\x41\x88\x01\xc0")
_START = "toAgent.a.ip.tun.start"


def seeds() -> list[bytes]:
    """A key, a line feed, and a body: of each kind and generation."""
    found: list[bytes] = []
    for generation in Generation:
        for kind, body in (
            (ControlKind.TUN_START, _TUN),
            (ControlKind.SERIAL_STARTED, Serial("a", "/dev/ttyUSB0", "115200")),
            (ControlKind.COMPONENT_READY, Component("a", "ready")),
            (ControlKind.LOSSY_LINK_START, LossyLink(3)),
        ):
            found.append(f"{_START}\n".encode() + encode_control(kind, body, generation))
        bodies = (encode_packet(packet, generation, Kind.INJECT) for packet in (_PACKET, _FRAME))
        found += [b"data.tun.fromAgent.a\n" + body for body in bodies]
    return found


def run(data: bytes) -> bool:
    """What is accepted can be written and is read the same; an agent that is asked to start opens one interface at most."""
    text, _, body = data.partition(b"\n")
    key = read_agent_key(text.decode(errors="replace"))
    bootstrap = Bootstrap("a")
    bootstrap.heard(_START, body)
    outputs = bootstrap.outputs()
    assert len(outputs) <= 1, "more than one answer"
    opens = any(isinstance(each, OpenTun) for each in outputs)
    assert (bootstrap.state is State.OPENING) is opens, "opens, and does not say so"
    assert not any(isinstance(each, Say) for each in outputs), "started before it was open"
    try:
        accepted = _packet(body)
    except MalformedError:
        accepted = _control(body)
    return accepted and key is not None


def _packet(body: bytes) -> bool:
    packet, generation, kind = decode_packet_untrusted(body)
    again = decode_packet_untrusted(encode_packet(packet, generation, kind))[0]
    assert again._replace(time_s=None) == packet._replace(time_s=None), "written, it is another packet"
    return True


def _control(body: bytes) -> bool:
    try:
        kind, said = decode_control_untrusted(body, None)
    except MalformedError:
        return False
    assert decode_control_untrusted(encode_control(kind, said, Generation.V0), None) == (kind, said), "written, another"
    if isinstance(said, Tun):
        try:
            found = addresses(said)
            assert len(found) <= 3
            network_behind(said)
        except MalformedError:
            return False
    return True


# A number of JSON takes two octets at least ("1,"), and is an entry of a list before it is an octet.
TARGET = Target(
    "older_agent", "packets and control messages of older agents", seeds, run, peak_base=96 << 10, peak_factor=64
)
