"""A client in virtual time: joining, calls and deadlines, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tumpline.errors import LocalProtocolError
from tumpline.machines.dbus import (
    Answered,
    CallReceived,
    ClientConfig,
    ClientConnection,
    Ended,
    Joined,
    SignalReceived,
    Unanswered,
)
from tumpline.testing.fds import CountedFd
from tumpline.wire.dbus import Kind, Message, encode_message

GUID = "00112233445566778899aabbccddeeff"
CONFIG = ClientConfig(uid=1000, join_s=5.0, outgoing_octets_most=10_000, pending_most=3)
CALL = Message(Kind.CALL, 0, "/a", "org.example.A", "Do", destination=":1.9")
HELLO = Message(Kind.RETURN, 1, reply_serial=1, sender="org.freedesktop.DBus")


def written(client: ClientConnection) -> bytes:
    found = b""
    while pieces := client.outbox.front()[0]:
        found += b"".join(pieces)
        client.outbox.sent(sum(map(len, pieces)))
    return found


def receive(client: ClientConnection, data: bytes, *fds: CountedFd) -> None:
    client.receive(memoryview(data), fds)


def joined(fds: bytes = b"AGREE_UNIX_FD") -> ClientConnection:
    client = ClientConnection(CONFIG, 0.0)
    receive(client, f"OK {GUID}\r\n".encode() + fds + b"\r\n")
    receive(client, encode_message(HELLO.with_body("s", ":1.5")))
    assert client.events() == [Joined(":1.5")]
    assert b"Hello" in written(client)
    return client


def answer(serial: int, sender: str = ":1.9", **fields: Any) -> Message:
    return Message(Kind.RETURN, 7, reply_serial=serial, sender=sender, **fields)


def test_a_call_is_answered_once() -> None:
    client = joined()
    serial = client.call(CALL, (), 25.0, 1.0)
    assert client.next_timeout() == 26.0
    for _ in range(2):
        receive(client, encode_message(answer(serial)))
    assert client.events() == [Answered(serial, answer(serial), ())]
    assert client.next_timeout() is None


def test_an_answer_of_somebody_else_does_not_count() -> None:
    client, fd = joined(), CountedFd()
    serial = client.call(CALL, (), 25.0, 1.0)
    receive(client, encode_message(answer(serial, ":1.8", unix_fds=1)), fd)
    assert client.events() == []
    assert fd.holders == 0
    to_bus = client.call(CALL._replace(destination="org.freedesktop.DBus"), (), 25.0, 1.0)
    receive(client, encode_message(answer(to_bus, ":1.8")))
    assert client.events() == []
    by_name = client.call(CALL._replace(destination="org.example.Name"), (), 25.0, 1.0)
    receive(client, encode_message(answer(by_name, ":1.8")))
    assert [type(event) for event in client.events()] == [Answered]


def test_deadlines_in_their_order() -> None:
    client = joined()
    late, soon = client.call(CALL, (), 9.0, 0.0), client.call(CALL, (), 5.0, 0.0)
    client.handle_timeout(4.9)
    assert client.events() == []
    client.handle_timeout(5.0)
    assert client.events() == [Unanswered(soon)]
    assert client.next_timeout() == 9.0
    client.forget(late)
    assert client.next_timeout() is None
    client.handle_timeout(99.0)
    assert client.events() == []


def test_deadlines_of_answered_calls_do_not_pile_up() -> None:
    client = joined()
    for _ in range(5000):
        serial = client.call(CALL, (), 1e6, 0.0)
        receive(client, encode_message(answer(serial)))
        written(client)
    assert len(client.events()) == 5000
    assert len(client._deadlines) < 2000


def test_bounds() -> None:
    client = joined()
    for _ in range(3):
        client.call(CALL, (), 1.0, 0.0)
    with pytest.raises(LocalProtocolError, match="3 calls wait for their answers already"):
        client.call(CALL, (), 1.0, 0.0)
    client.post(CALL.with_body("ay", b"x" * 9_000))
    client.post(CALL.with_body("ay", b"x" * 9_000))
    (ended,) = client.events()
    assert isinstance(ended, Ended)
    assert "the bus does not read" in ended.text
    with pytest.raises(LocalProtocolError, match="that is ended"):
        client.post(CALL)
    assert client.outbox.octets == 0
    assert client.next_timeout() is None


def test_serials_go_round() -> None:
    client = joined()
    client._serial = (1 << 32) - 2
    waiting = client.call(CALL, (), 1.0, 0.0)
    assert [waiting, client.post(CALL), client.post(CALL)] == [(1 << 32) - 1, 1, 2]
    client._serial = waiting - 1
    assert client.post(CALL) == 1, "one that waits is not given again, nor is 0"


def test_who_does_not_let_us_in() -> None:
    client = ClientConnection(CONFIG, 10.0)
    assert client.next_timeout() == 15.0
    client.handle_timeout(15.0)
    assert client.events() == [Ended("the bus did not let us in within 5 s (it was authenticating)")]
    client.end("again")
    assert client.events() == []
    denied = ClientConnection(CONFIG, 0.0)
    receive(denied, f"OK {GUID}\r\nERROR\r\n".encode())
    refusal = Message(Kind.ERROR, 1, reply_serial=1, error_name="org.freedesktop.DBus.Error.AccessDenied")
    receive(denied, encode_message(refusal.with_body("s", "not you")))
    assert denied.events() == [Ended("org.freedesktop.DBus.Error.AccessDenied: not you")]


def test_what_comes_before_hello_is_answered_does_not_count() -> None:
    client, fd = ClientConnection(CONFIG, 0.0), CountedFd()
    receive(client, f"OK {GUID}\r\nAGREE_UNIX_FD\r\n".encode())
    early = Message(Kind.SIGNAL, 3, "/a", "org.example.A", "Said", sender=":1.9", unix_fds=1)
    receive(client, encode_message(early), fd)
    assert client.events() == []
    assert fd.holders == 0


def test_calls_and_signals_of_others() -> None:
    client, fds = joined(), [CountedFd() for _ in range(2)]
    call = Message(Kind.CALL, 3, "/a", member="Do", sender=":1.9", unix_fds=1)
    signal = Message(Kind.SIGNAL, 4, "/a", "org.example.A", "Said", sender=":1.9", unix_fds=1)
    unknown = Message(9, 5, sender=":1.9")
    receive(client, b"".join(map(encode_message, (call, signal, unknown))), *fds)
    assert client.events() == [CallReceived(call, (fds[0],)), SignalReceived(signal, (fds[1],))]
    assert [fd.holders for fd in fds] == [1, 1]


def test_octets_that_are_no_message() -> None:
    client, fd = joined(), CountedFd()
    whole = Message(Kind.SIGNAL, 4, "/a", "org.example.A", "Said", sender=":1.9", unix_fds=1)
    receive(client, encode_message(whole) + b"\xff" * 16, fd)
    (ended,) = client.events()
    assert isinstance(ended, Ended)
    assert "the bus broke the rules of D-Bus" in ended.text
    assert fd.holders == 0
    receive(client, b"more", late := CountedFd())
    assert late.holders == 0


def test_descriptors_only_where_they_were_agreed_on() -> None:
    fd = CountedFd()
    with pytest.raises(LocalProtocolError, match="passes no descriptors"):
        joined(b"ERROR").call(CALL, [fd], 1.0, 0.0)
    client = joined()
    client.call(CALL, [fd], 1.0, 0.0)
    assert client.outbox.front()[1] == (fd,)
    client.end("over")
    assert fd.holders == 1
