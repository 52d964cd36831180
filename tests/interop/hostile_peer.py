"""A hostile TCPCLv4 peer: `python hostile_peer.py ATTACK PORT` attacks until it is ended. It says "attacking" when it has begun.

Octets come from the project's encoders; what is done with them no honest session would do.
"""

from __future__ import annotations

import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from tumpline.wire import tcpcl4 as wire
from tumpline.wire.bundle7 import Bundle, PrimaryBlock, encode_bundle
from tumpline.wire.eid import NULL, Eid

CONNECTIONS = 5_000
CLIENT_HELLO_BEGIN = bytes.fromhex(
    "16 03 01 02 00 01 00 01 fc 03 03"
)  # a TLS record of 512 octets that never comes whole
FLOOD_OCTETS = 1 << 16
ECHO_OCTETS = 20_000
NEVER = 3600.0  # seconds; the test ends us long before


def connect(port: int, receive_octets: int = 0) -> socket.socket:
    """A connection; with a small receive buffer, if asked, so that what is not read soon fills the other side's."""
    sock = socket.socket()
    if receive_octets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_octets)
    sock.settimeout(30.0)
    sock.connect(("127.0.0.1", port))
    return sock


def contact(port: int, flags: int = 0, receive_octets: int = 0) -> socket.socket:
    """Contact headers are exchanged."""
    sock = connect(port, receive_octets)
    sock.sendall(wire.encode_contact(wire.ContactHeader(wire.VERSION, flags)))
    read(sock, wire.CONTACT_OCTETS)
    return sock


def read(sock: socket.socket, octets: int) -> bytes:
    """So many octets. Raises: ConnectionError."""
    data = b""
    while len(data) < octets:
        more = sock.recv(octets - len(data))
        if not more:
            raise ConnectionError("closed by the agent")
        data += more
    return data


def session(port: int, receive_octets: int = 0) -> socket.socket:
    """A session as `dtn://hostile/`."""
    sock = contact(port, receive_octets=receive_octets)
    sock.sendall(init())
    read(sock, 25)  # the fixed part of the SESS_INIT that answers; the rest may stay unread
    return sock


def init() -> bytes:
    return wire.encode_init(wire.SessionInit(60, 1 << 20, 1 << 30, b"dtn://hostile/"))


def segment(flags: int, transfer: int, length: int, announced: int | None = None) -> bytes:
    """The head of a segment."""
    items = b"" if announced is None else wire.encode_transfer_length(announced)
    return wire.encode_segment_head(wire.SegmentHead(flags, transfer, items, length))


def again(attack: Callable[[], None]) -> None:
    """For ever, whatever the agent does about it."""
    while True:
        with suppress(OSError):
            attack()


def attacking() -> None:
    print("attacking", flush=True)


# ---- attacks ---------------------------------------------------------------------------------------------------------


def stall_in_tls(port: int) -> None:
    """A hundred handshakes that never go on."""
    held = []
    for _ in range(100):
        sock = contact(port, wire.CAN_TLS)
        sock.sendall(CLIENT_HELLO_BEGIN)
        held.append(sock)
    attacking()
    time.sleep(NEVER)


def never_read(port: int) -> None:
    """Echo requests on several sessions; answers and acknowledgements are never read."""
    held = [session(port, receive_octets=4096) for _ in range(4)]
    sequence = count(time.time_ns())
    for sock in held:
        sock.settimeout(1.0)  # the agent may stop reading: that is its right
        with suppress(OSError):
            for number in range(100):
                bundle = echo_request(next(sequence))
                sock.sendall(segment(wire.WHOLE, number, len(bundle)) + bundle)
    attacking()
    time.sleep(NEVER)


def echo_request(sequence: int) -> bytes:
    now_ms = int(time.time() * 1000) - 946_684_800_000
    ends = Eid.parse("dtn://hub/echo"), Eid.parse("dtn://hostile/me"), NULL
    return encode_bundle(Bundle(PrimaryBlock(0, 2, *ends, now_ms, sequence, 60_000), (), bytes(ECHO_OCTETS)))


def dribble(port: int) -> None:
    """An octet a second: contact headers, SESS_INITs, and a transfer that would be 500 MB."""
    early = [connect(port) for _ in range(40)]
    middle = [contact(port) for _ in range(40)]
    late = [session(port) for _ in range(10)]
    for sock in late:
        sock.sendall(segment(wire.SegmentFlag.START, 1, 1 << 20, 500_000_000) + b"\x9f")
    attacking()
    first, second = wire.encode_contact(wire.ContactHeader(4, 0)), init()
    for index in count():
        for sock, octets in (
            [(s, first) for s in early] + [(s, second) for s in middle] + [(s, bytes(9999)) for s in late]
        ):
            with suppress(OSError):
                sock.sendall(octets[index : index + 1])
        time.sleep(1.0)


def flood(port: int, message: bytes) -> None:
    """One message after the other, as fast as they go."""
    octets = message * (FLOOD_OCTETS // len(message))

    def once() -> None:
        sock = session(port)
        reader = threading.Thread(target=drain, args=(sock,), daemon=True)
        reader.start()
        try:
            while True:
                sock.sendall(octets)
        finally:
            sock.close()

    attacking()
    again(once)


def drain(sock: socket.socket) -> None:
    """Read and forget."""
    with suppress(OSError):
        while sock.recv(1 << 16):
            pass


def flood_keepalive(port: int) -> None:
    flood(port, wire.KEEPALIVE)


def flood_init(port: int) -> None:
    flood(port, init())


def announce_too_much(port: int) -> None:
    """Transfers and segments of 2^63 octets, on session after session."""

    def once() -> None:
        for transfer, head in enumerate(
            (segment(2, 1, 1 << 16, 1 << 63), segment(2, 2, 1 << 63), segment(3, 3, 1 << 63))
        ):
            sock = session(port)
            sock.sendall(head + bytes(1 << 16) + segment(0, transfer, 1 << 16) + bytes(1 << 16))
            drain_briefly(sock)

    attacking()
    again(once)


def drain_briefly(sock: socket.socket) -> None:
    """Wait for an answer, then go."""
    sock.settimeout(0.2)
    with suppress(OSError):
        sock.recv(1 << 16)
    sock.close()


def reset(port: int) -> None:
    """Half of a large transfer, then a reset."""

    def once() -> None:
        sock = session(port)
        bundle = echo_request(1)
        sock.sendall(segment(wire.SegmentFlag.START, 1, 400_000, 800_000) + bundle + bytes(200_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        time.sleep(0.01)

    attacking()
    again(once)


def open_connections(port: int) -> None:
    """5,000 connections that say nothing, or begin well; those that the agent drops are opened again."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attacking()
    held = []
    for number in range(CONNECTIONS):
        with suppress(OSError):
            sock = connect(port)
            held.append(sock)
            if number % 2:
                sock.sendall(wire.encode_contact(wire.ContactHeader(wire.VERSION, 0)))
    time.sleep(NEVER)


ATTACKS = {
    attack.__name__: attack
    for attack in (
        stall_in_tls,
        never_read,
        dribble,
        flood_keepalive,
        flood_init,
        announce_too_much,
        reset,
        open_connections,
    )
}

if __name__ == "__main__":
    ATTACKS[sys.argv[1]](int(sys.argv[2]))
