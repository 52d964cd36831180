"""Captures made by hand: a TCP conversation, or UDP datagrams, as a pcap file, for decoders that nobody here wrote."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

LINKTYPE_ETHERNET = 1
_TCP, _UDP = 6, 17
_CHECKSUM_AT = {_TCP: 16, _UDP: 6}
MSS = 1400  # octets of one TCP segment
_FIN, _SYN, _PSH, _ACK = 0x01, 0x02, 0x08, 0x10


class Chunk(NamedTuple):
    """Octets that one end wrote at once."""

    from_client: bool
    data: bytes


def tcp_conversation(chunks: Sequence[Chunk], server_port: int, client_port: int = 50_000) -> bytes:
    """A pcap file of a TCP connection from SYN to FIN in which each end writes its chunks, in this order."""
    conversation = _Conversation(client_port, server_port)
    conversation.packet(True, _SYN)
    conversation.packet(False, _SYN | _ACK)
    conversation.packet(True, _ACK)
    for from_client, data in chunks:
        for offset in range(0, len(data), MSS):
            conversation.packet(from_client, _PSH | _ACK, data[offset : offset + MSS])
    for from_client in (True, False):
        conversation.packet(from_client, _FIN | _ACK)
    conversation.packet(True, _ACK)
    return conversation.pcap()


def udp_conversation(chunks: Sequence[Chunk], server_port: int, client_port: int = 50_000) -> bytes:
    """A pcap file of UDP datagrams, one for each chunk."""
    ports = {True: (client_port, server_port), False: (server_port, client_port)}
    packets = []
    for from_client, data in chunks:
        header = struct.pack(">HHHH", *ports[from_client], 8 + len(data), 0)
        packets.append(_ethernet(_ipv4(from_client, header + data, _UDP)))
    return _pcap(packets)


class _Conversation:
    """Numbers and packets of one connection, a millisecond apart."""

    def __init__(self, client_port: int, server_port: int) -> None:
        self._ports = {True: client_port, False: server_port}
        self._next = {True: 1_000, False: 2_000}  # sequence numbers
        self._packets: list[bytes] = []

    def packet(self, from_client: bool, flags: int, data: bytes = b"") -> None:
        """One packet; the other end acknowledges with its next one."""
        acknowledged = self._next[not from_client] if flags & _ACK else 0
        tcp = struct.pack(
            ">HHIIBBHHH",
            self._ports[from_client],
            self._ports[not from_client],
            self._next[from_client],
            acknowledged,
            5 << 4,  # header length in words of 4 octets
            flags,
            0xFFFF,  # window
            0,  # checksum, filled in below
            0,
        )
        self._next[from_client] += len(data) + bool(flags & (_SYN | _FIN))
        self._packets.append(_ethernet(_ipv4(from_client, tcp + data)))

    def pcap(self) -> bytes:
        """The file."""
        return _pcap(self._packets)


def _pcap(packets: Sequence[bytes]) -> bytes:
    octets = bytearray(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0x40000, LINKTYPE_ETHERNET))
    for index, packet in enumerate(packets):
        octets += struct.pack("<IIII", index // 1000, index % 1000 * 1000, len(packet), len(packet)) + packet
    return bytes(octets)


def _ethernet(packet: bytes) -> bytes:
    return b"\x02\0\0\0\0\x01" + b"\x02\0\0\0\0\x02" + b"\x08\0" + packet


def _ipv4(from_client: bool, segment: bytes, protocol: int = _TCP) -> bytes:
    """192.0.2.1 is the client, 192.0.2.2 the server (RFC 5737)."""
    addresses = bytes([192, 0, 2, 1, 192, 0, 2, 2]) if from_client else bytes([192, 0, 2, 2, 192, 0, 2, 1])
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, protocol, 0) + addresses
    header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
    pseudo = addresses + struct.pack(">BBH", 0, protocol, len(segment))
    at = _CHECKSUM_AT[protocol]
    sum_ = checksum(pseudo + segment) or 0xFFFF  # RFC 768: zero would mean "none"
    return header + segment[:at] + struct.pack(">H", sum_) + segment[at + 2 :]


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    octets += b"\0" * (len(octets) % 2)
    total: int = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
