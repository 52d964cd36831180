"""IPv6 with UDP as small radios send it (RFC 6282, RFC 4944 §5.3), and CoAP (RFC 7252): as much as two simulated motes need.

Link-local addresses follow from the radios' addresses and are left out; what does not fit into one frame is fragmented.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.wire.dot15d4 import Head, decode_head_untrusted

COAP_PORT: Final = 5683
PAN_ID: Final = 0xABCD
_MAC_OCTETS_MOST: Final = 125  # without the FCS
_IPV6_OCTETS, _UDP_OCTETS = 40, 8
# RFC 6282 §3.1.1: traffic class and flow label elided, next header compressed, hop limit 64; no context, both addresses
# stateless and elided. §4.3.3: ports and checksum in full.
_IPHC: Final = b"\x7e\x33"
_NHC_UDP: Final = b"\xf0"
_FRAG1, _FRAGN = 0b11000, 0b11100


class Datagram(NamedTuple):
    """UDP between two radios, by their extended addresses (most significant octet first)."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    payload: bytes


def link_local(extended: bytes) -> bytes:
    """RFC 6282 §3.2.2: the interface identifier is the address with its universal/local bit inverted."""
    return bytes.fromhex("fe80000000000000") + bytes([extended[0] ^ 2]) + extended[1:]


def data_frame(sequence: int, source: bytes, destination: bytes, payload: bytes) -> bytes:
    """A data frame of version 2006 that wants an acknowledgement."""
    head = bytes([0x61, 0xDC, sequence]) + PAN_ID.to_bytes(2, "little") + destination[::-1] + source[::-1]
    return head + payload


def acknowledgement(sequence: int) -> bytes:
    """What answers a frame that wants one."""
    return bytes([2, 0, sequence])


# ---- datagrams <-> payloads of frames ------------------------------------------------------------------------------


def encode_datagram(datagram: Datagram, tag: int) -> list[bytes]:
    """The payloads of one frame or several."""
    head = _IPHC + _NHC_UDP + _ports(datagram) + _checksum(datagram)
    mac_head = len(data_frame(0, datagram.source, datagram.destination, b""))
    room = _MAC_OCTETS_MOST - mac_head
    if len(head) + len(datagram.payload) <= room:
        return [head + datagram.payload]
    return _fragments(head, datagram.payload, tag, room)


def _ports(datagram: Datagram) -> bytes:
    return datagram.source_port.to_bytes(2, "big") + datagram.destination_port.to_bytes(2, "big")


def _fragments(head: bytes, payload: bytes, tag: int, room: int) -> list[bytes]:
    """RFC 4944 §5.3: sizes and offsets are of the datagram before compression, offsets in units of eight octets."""
    size = _IPV6_OCTETS + _UDP_OCTETS + len(payload)
    first = (room - 4 - len(head)) // 8 * 8
    fragments = [_fragment_head(_FRAG1, size, tag) + head + payload[:first]]
    step = (room - 5) // 8 * 8
    for at in range(first, len(payload), step):
        offset = bytes([(at + _IPV6_OCTETS + _UDP_OCTETS) // 8])
        fragments.append(_fragment_head(_FRAGN, size, tag) + offset + payload[at : at + step])
    return fragments


def _fragment_head(kind: int, size: int, tag: int) -> bytes:
    return (kind << 11 | size).to_bytes(2, "big") + tag.to_bytes(2, "big")


def _checksum(datagram: Datagram) -> bytes:
    """Of UDP, with the pseudo-header of the addresses that were left out (RFC 8200 §8.1)."""
    length = (_UDP_OCTETS + len(datagram.payload)).to_bytes(4, "big")
    pseudo = link_local(datagram.source) + link_local(datagram.destination) + length + b"\0\0\0\x11"
    octets = pseudo + _ports(datagram) + length[2:] + b"\0\0" + datagram.payload
    total = int.from_bytes(octets + b"\0" * (len(octets) & 1), "big") % 0xFFFF
    return ((0xFFFF - total) or 0xFFFF).to_bytes(2, "big")


class Reassembly:
    """Frames of one radio into datagrams."""

    def __init__(self) -> None:
        self._parts: dict[tuple[bytes, int, int], dict[int, bytes]] = {}

    def receive(self, frame: bytes) -> Datagram | None:
        """What this data frame completes; fragments may come in any order."""
        mac = decode_head_untrusted(frame)
        payload = frame[mac.head_octets :]
        kind = payload[0] >> 3
        if kind not in (_FRAG1, _FRAGN):
            return _decode(mac, payload)
        size, tag = int.from_bytes(payload[:2], "big") & 0x7FF, int.from_bytes(payload[2:4], "big")
        assert mac.source is not None
        key = mac.source, size, tag
        parts = self._parts.setdefault(key, {})
        parts[0 if kind == _FRAG1 else payload[4] * 8] = payload[4 if kind == _FRAG1 else 5 :]
        joined = b"".join(parts[at] for at in sorted(parts))
        compressed_octets = len(_IPHC) + len(_NHC_UDP) + 6
        if 0 not in parts or len(joined) - compressed_octets + _IPV6_OCTETS + _UDP_OCTETS < size:
            return None
        del self._parts[key]
        return _decode(mac, joined)


def _decode(mac: Head, octets: bytes) -> Datagram:
    assert octets[:3] == _IPHC + _NHC_UDP, octets.hex()
    assert mac.source is not None
    assert mac.destination is not None
    ports = int.from_bytes(octets[3:5], "big"), int.from_bytes(octets[5:7], "big")
    datagram = Datagram(mac.source, mac.destination, *ports, octets[9:])
    assert _checksum(datagram) == octets[7:9], "a UDP checksum that is wrong"
    return datagram


# ---- CoAP (RFC 7252 §3) ---------------------------------------------------------------------------------------------

GET, CONTENT, NOT_FOUND = 0x01, 0x45, 0x84


class Coap(NamedTuple):
    """A message."""

    is_acknowledgement: bool
    code: int
    message_id: int
    token: bytes
    path: str = ""
    payload: bytes = b""


def encode_coap(message: Coap) -> bytes:
    """Confirmable, or the answer that acknowledges it."""
    first = 0x40 | message.is_acknowledgement << 5 | len(message.token)
    head = bytes([first, message.code]) + message.message_id.to_bytes(2, "big") + message.token
    option = b""
    if message.path:
        path = message.path.encode()
        assert len(path) < 13
        option = bytes([0xB0 | len(path)]) + path  # 11: Uri-Path
    return head + option + (b"\xff" + message.payload if message.payload else b"")


def decode_coap(octets: bytes) -> Coap:
    """With Uri-Path as its only option, or none."""
    token_octets = octets[0] & 15
    at = 4 + token_octets
    path = ""
    if at < len(octets) and octets[at] >> 4 == 11:
        length = octets[at] & 15
        path = octets[at + 1 : at + 1 + length].decode()
        at += 1 + length
    return Coap(
        bool(octets[0] & 0x20),
        octets[1],
        int.from_bytes(octets[2:4], "big"),
        octets[4 : 4 + token_octets],
        path,
        octets[at + 1 :],
    )
