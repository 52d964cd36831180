"""Frames of radios between members: every radio hears them, with what is known of them where that can be told."""

from __future__ import annotations

from tumpline.machines.overlay import MemberConfig
from tumpline.machines.packets import PacketKind, batch_of_records
from tumpline.testing.overlay_exchange import Exchange
from tumpline.wire.overlay import Format
from tumpline.wire.packet_json import decode_packet_untrusted
from tumpline.wire.radio import RadioFacts, encode_facts
from tumpline.wire.slip import encode_slip

FRAME = bytes.fromhex("418807cdabffff0100") + b"\xc0payload"
FACTS = encode_facts(RadioFacts(-70, 100, 26))


def config(number: int, *formats: Format) -> MemberConfig:
    name, octets = f"m{number}", bytes([number])
    return MemberConfig(name, octets * 8, octets * 32, 1000 + number, kinds=(PacketKind.FRAME,), formats=formats)


def test_every_radio_hears_a_frame_and_those_that_can_what_is_known_of_it() -> None:
    exchange = Exchange()
    configs = config(1, *Format), config(2, *Format), config(3, Format.V1), config(4, Format.V0)
    one, *others = [exchange.add(each) for each in configs]
    exchange.run()
    mark = len(exchange.published)
    one.member.from_port(batch_of_records(PacketKind.FRAME, [(FACTS, FRAME), (bytes(10), FRAME[::-1])]), exchange.now)
    one.drain()
    exchange.run()
    assert [each.packets for each in others] == [[FRAME, FRAME[::-1]]] * 3
    assert [bytes(record.offload) for record in others[0].records] == [FACTS, bytes(10)]
    older = [each.message for each in exchange.published[mark:] if not each.message.routing_key.startswith("tumpline.")]
    assert sorted({message.routing_key for message in older}) == [
        "data.serial.fromAgent.m1",
        "fromAgent.m1.802154.serial.packet.raw",
    ]
    packets = [decode_packet_untrusted(message.body)[0] for message in older]
    assert {(packet.data, packet.slip, packet.interface_name) for packet in packets} == {
        (frame, encode_slip(frame), "serial") for frame in (FRAME, FRAME[::-1])
    }
