"""A bus, one of whose clients sends mutated octets of real ones, with a descriptor here and there, cut anywhere."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz.harness import Target
from tumpline.machines.dbus import Ended
from tumpline.machines.dbus.connection import BUS_NAME, BUS_PATH
from tumpline.testing.bus_net import BusNet, NetClient
from tumpline.testing.fds import CountedFd
from tumpline.wire.dbus import Flags, Kind, Message, encode_message

PIECES_MOST = 300  # of one input
NAME, IFACE = "org.example.Name", "org.example.A"
_AUTH = b"\0AUTH EXTERNAL 31303030\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n"
_TO_BUS = Message(Kind.CALL, 1, BUS_PATH, BUS_NAME, destination=BUS_NAME)
_BODIES: tuple[tuple[Any, ...], ...] = (
    ("RequestName", "su", NAME, 3), ("RequestName", "su", "org.example.Other", 0), ("ReleaseName", "s", NAME),
    ("AddMatch", "s", "type='signal',arg0namespace='org.example'"), ("RemoveMatch", "s", "type='signal'"),
    ("GetNameOwner", "s", NAME), ("GetConnectionCredentials", "s", ":1.0"), ("StartServiceByName", "su", NAME, 0),
    ("ListNames", ""), ("ListQueuedOwners", "s", NAME), ("GetId", ""), ("Introspect", ""), ("GetAll", "s", BUS_NAME),
)  # fmt: skip
_OTHERS = (
    Message(Kind.SIGNAL, 40, "/a", IFACE, "Said").with_body("s", "org.example.x"),
    Message(Kind.SIGNAL, 41, "/a", IFACE, "Said", destination=":1.0", unix_fds=1).with_body("h", 0),
    Message(Kind.CALL, 42, "/a", IFACE, "Do", destination=":1.1").with_body("ay", b"octets"),
    Message(Kind.CALL, 43, "/a", IFACE, "Do", destination=NAME, flags=Flags.NO_REPLY_EXPECTED),
    Message(Kind.CALL, 44, "/a", IFACE, "Do", destination=":1.2"),
    Message(Kind.RETURN, 45, reply_serial=44, destination=":1.2").with_body("b", True),
    Message(Kind.ERROR, 46, error_name="a.b", reply_serial=7, destination=":1.0").with_body("s", "why"),
)
# First octet of an input: how the octets are cut; second: where descriptors come.


def seeds() -> list[bytes]:
    """What a client says from its first octet on; whole, and cut."""
    hello = encode_message(_TO_BUS._replace(member="Hello"))
    calls = [
        encode_message(_TO_BUS._replace(serial=serial, member=member, interface="").with_body(*body))
        for serial, (member, *body) in enumerate(_BODIES, 2)
    ]
    others = [encode_message(message) for message in _OTHERS]
    whole = _AUTH + hello + b"".join(calls + others)
    single = [_AUTH + hello + each for each in (*calls, *others)]
    return [bytes([cut, fds]) + stream for stream in (whole, *single) for cut, fds in ((0, 0), (7, 0), (7, 3))]


def run(data: bytes) -> bool:
    """Whatever one client sends: the others go on, and when all have left nothing is left behind."""
    net = BusNet()
    others = [net.join() for _ in range(2)]
    net.ask(others[0], "AddMatch", "s", "type='signal'")
    stranger = net.connect()
    stranger.machine.outbox.clear()
    stranger.is_deaf = True  # its own machine says nothing in between
    fds = _send(net, stranger, data)
    was_accepted = not stranger.at_bus.is_over
    assert all(_is_well(net, each) for each in others), "somebody else was harmed"
    for client in list(net.clients.values()):
        net.leave(client)
    _let_go([stranger, *others])
    assert {fd.holders for fd in fds} <= {0}, "a descriptor is held by nobody"
    assert net.clients == {}
    assert net.bus.names.names() == []
    assert net.bus.next_timeout() is None
    return was_accepted


def _send(net: BusNet, stranger: NetClient, data: bytes) -> list[CountedFd]:
    chance, stream, given = Random(data[:2]), data[2:], list[CountedFd]()
    offset = 0
    for _ in range(PIECES_MOST if data[:1] > b"\0" else 1):
        size = chance.choice([1, 1, 2, 5, 19, 300, 5_000]) if data[:1] > b"\0" else len(stream)
        fds = [CountedFd() for _ in range(chance.choice([0, 0, 0, 1, 2] if data[1:2] > b"\0" else [0]))]
        given += fds
        net.bus.receive(stranger.at_bus.number, memoryview(stream[offset : offset + size]), fds)
        net.settle()
        offset += size
    return given


def _is_well(net: BusNet, client: NetClient) -> bool:
    is_broken = any(isinstance(event, Ended) for event in client.seen)
    return not is_broken and net.ask(client, "GetConnectionUnixUser", "s", client.name) == 1000


def _let_go(clients: list[NetClient]) -> None:
    """Release the descriptors that came with what clients have seen."""
    for client in clients:
        for event in client.seen:
            for fd in getattr(event, "fds", ()):
                fd.release()


# Two whole clients and a bus lie beneath; a message of some 50 octets becomes an event at each of them, and an answer.
TARGET = Target("dbus_bus", "D-Bus message bus", seeds, run, peak_base=1 << 20, peak_factor=256)
