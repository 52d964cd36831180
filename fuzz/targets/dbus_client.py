"""A client of a bus that reads mutated octets of a real one, with descriptors here and there, cut anywhere."""

from __future__ import annotations

from random import Random

from fuzz.harness import Target
from tumpline.machines.dbus import Answered, ClientConfig, ClientConnection, Ended, Event, Joined
from tumpline.machines.dbus.connection import BUS_NAME, State
from tumpline.testing.fds import CountedFd
from tumpline.wire.dbus import Kind, Message, encode_message

CALLS = 3
PIECES_MOST = 300  # of one input
_AUTH = b"OK 00112233445566778899aabbccddeeff\r\nAGREE_UNIX_FD\r\n"
_CALL = Message(Kind.CALL, 0, "/a", "org.example.A", "Do", destination=":1.9")
_HELLO = Message(Kind.RETURN, 1, reply_serial=1, sender=BUS_NAME, destination=":1.5").with_body("s", ":1.5")
_SENT = (
    Message(Kind.SIGNAL, 2, "/org/freedesktop/DBus", BUS_NAME, "NameAcquired", sender=BUS_NAME).with_body("s", ":1.5"),
    Message(Kind.RETURN, 3, reply_serial=2, sender=":1.9").with_body("ay", b"octets" * 20),
    Message(Kind.ERROR, 4, error_name="a.b", reply_serial=3, sender=":1.9").with_body("s", "why"),
    Message(Kind.CALL, 5, "/a", "org.example.A", "Do", sender=":1.9", unix_fds=1).with_body("h", 0),
    Message(Kind.SIGNAL, 6, "/a", "org.example.A", "Said", sender=":1.9", big_endian=True).with_body("s", "x"),
)
# First octet of an input: how the octets are cut; second: where descriptors come.


def seeds() -> list[bytes]:
    """What a bus says from its first octet on; whole, and cut."""
    hello, sent = encode_message(_HELLO), [encode_message(message) for message in _SENT]
    streams = [_AUTH + hello + b"".join(sent), *(_AUTH + hello + each for each in sent), b"REJECTED EXTERNAL\r\n"]
    return [bytes([cut, fds]) + stream for stream in streams for cut, fds in ((0, 0), (7, 0), (7, 3))]


def run(data: bytes) -> bool:
    """Whatever comes: each call ends once at most, the end is told once, and no descriptor is lost."""
    client = ClientConnection(ClientConfig(1000), 0.0)
    seen, fds = _converse(client, data)
    was_joined = any(isinstance(event, Joined) for event in seen)
    client.end("the socket is closed")
    seen += client.events()
    assert sum(isinstance(event, Ended) for event in seen) == 1, "the end is told once"
    answered = [event.serial for event in seen if isinstance(event, Answered)]
    assert len(answered) == len(set(answered)), "a call ended twice"
    for event in seen:
        for fd in getattr(event, "fds", ()):
            fd.release()
    assert {fd.holders for fd in fds} <= {0}, "a descriptor is held by nobody"
    assert client.state is State.ENDED
    assert client.next_timeout() is None, "one that has ended has a deadline"
    assert client.outbox.octets == 0
    return was_joined


def _converse(client: ClientConnection, data: bytes) -> tuple[list[Event], list[CountedFd]]:
    chance, stream, offset = Random(data[:2]), data[2:], 0
    seen, given = list[Event](), list[CountedFd]()
    is_cut = data[:1] > b"\0"
    for _ in range(PIECES_MOST if is_cut else 1):
        size = chance.choice([1, 1, 2, 5, 19, 300, 5_000]) if is_cut else len(stream)
        fds = [CountedFd() for _ in range(chance.choice([0, 0, 0, 1] if data[1:2] > b"\0" else [0]))]
        given += fds
        client.receive(memoryview(stream[offset : offset + size]), fds)
        found = client.events()
        seen += found
        if any(isinstance(event, Joined) for event in found):
            for _ in range(CALLS):
                client.call(_CALL, (), 25.0, 1.0)
        offset += size
    return seen, given


TARGET = Target("dbus_client", "D-Bus client", seeds, run, peak_base=1 << 20, peak_factor=128)
