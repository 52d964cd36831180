"""Packets and messages for tests of the router."""

from __future__ import annotations

from hashlib import blake2b
from ipaddress import ip_address
from typing import Any

from tumpline.machines.overlay import MemberConfig, Publish
from tumpline.machines.packet_router import PacketRouter
from tumpline.wire.packet_json import Generation, Packet, encode_packet

Sent = tuple[str, bytes]
FRAME = encode_packet(Packet(b"\x41\x88\x01\xcd\xab\xff\xff\x01\x00", "serial", 1.0, b"\xc0ABC\xc0"), Generation.V1)


def at(address: str) -> bytes:
    return ip_address(address).packed


def ip(source: str, destination: str, octets: int = 60) -> bytes:
    """A packet of this length, with numbers of three digits in it; the last octet is 7."""
    payload = bytes(range(200, 250)) * (octets // 50 + 1)
    if ":" in source:
        head = b"\x60\0\0\0" + (octets - 40).to_bytes(2) + b"\x11\x40" + at(source) + at(destination)
    else:
        head = b"\x45\0" + octets.to_bytes(2) + b"\0\0\0\0\x40\x11\0\0" + at(source) + at(destination)
    return (head + payload)[: octets - 1] + b"\x07"


def body(packet: bytes, generation: Generation = Generation.V1) -> bytes:
    """A message with that packet."""
    return encode_packet(Packet(packet, "tun0", 1795223949.0), generation)


def sent(machine: PacketRouter) -> list[Sent]:
    """Packets that the machine wants to publish."""
    outputs = [output for output in machine.outputs() if isinstance(output, Publish)]
    return [
        (output.routing_key, b"".join(output.pieces))
        for output in outputs
        if "toAgent" in output.routing_key or output.routing_key.startswith("tumpline.packet.")
    ]


def config(name: str, **values: Any) -> MemberConfig:
    """Of a member, or of a router; everything follows from the name."""
    instance = blake2b(name.encode(), digest_size=8).digest()
    return MemberConfig(name, instance, blake2b(name.encode(), digest_size=32).digest(), **values)
