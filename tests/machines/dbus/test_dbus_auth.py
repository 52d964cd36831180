"""Authentication: both sides with each other, and with whoever says something else."""

from __future__ import annotations

import pytest

from tumpline.errors import MalformedError, RemoteProtocolError
from tumpline.machines.dbus.auth import ClientAuth, ServerAuth

GUID = "00112233445566778899aabbccddeeff"
OTHER = "EXTERNAL 31"  # "1", in hexadecimal
OWN = "EXTERNAL 31303030"


def said(server: ServerAuth, *lines: str) -> list[str]:
    data = "".join(line + "\r\n" for line in lines).encode()
    return server.receive(memoryview(data)).decode().split("\r\n")[:-1]


def begun() -> ServerAuth:
    server = ServerAuth(GUID, 1000)
    assert server.receive(memoryview(b"\0")) == b""
    return server


def test_both_sides_agree() -> None:
    client, server = ClientAuth(1000), ServerAuth(GUID, 1000)
    data = client.begin()
    while not (client.is_done and server.is_done):
        data = server.receive(memoryview(data))
        if data:
            data = client.receive(memoryview(data))
    assert client.guid == GUID
    assert client.passes_fds
    assert server.passes_fds


def test_octet_by_octet() -> None:
    server = ServerAuth(GUID, 1000)
    data = b"\0AUTH EXTERNAL 31303030\r\nBEGIN\r\nrest"
    answer = b"".join(server.receive(memoryview(data[at : at + 1])) for at in range(len(data) - 4))
    assert answer == f"OK {GUID}\r\n".encode()
    assert server.is_done
    assert not server.passes_fds


@pytest.mark.parametrize(
    ("lines", "answers"),
    [
        (["AUTH"], ["REJECTED EXTERNAL"]),
        (["AUTH ANONYMOUS"], ["REJECTED EXTERNAL"]),
        (["AUTH DBUS_COOKIE_SHA1 31"], ["REJECTED EXTERNAL"]),
        ([f"AUTH {OTHER}", f"AUTH {OWN}"], ["REJECTED EXTERNAL", f"OK {GUID}"]),
        (["AUTH EXTERNAL", "DATA"], ["DATA", f"OK {GUID}"]),
        (["AUTH EXTERNAL", "DATA 31"], ["DATA", "REJECTED EXTERNAL"]),
        (["AUTH EXTERNAL", "CANCEL"], ["DATA", "REJECTED EXTERNAL"]),
        ([f"AUTH {OWN}", "CANCEL", "NEGOTIATE_UNIX_FD"], [f"OK {GUID}", "REJECTED EXTERNAL", "ERROR"]),
        (["NONSENSE", "ERROR"], ["ERROR", "REJECTED EXTERNAL"]),
    ],
)
def test_what_a_server_answers(lines: list[str], answers: list[str]) -> None:
    found = said(begun(), *lines)
    assert [answer.partition(' "')[0] for answer in found] == answers


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"A", "begins with NUL"),
        (b"\0BEGIN\r\n", "without saying who it is"),
        (b"\0AUTH EXTERNAL zz\r\n", "no identity in hexadecimal"),
        (b"\0" + b"A" * 2000, "more than 1024 octets"),
        (b"\0" + b"AUTH\r\n" * 40, "not come to an end in 32 lines"),
        (b"\0\xff\r\n", "no line of D-Bus authentication"),
    ],
)
def test_what_a_server_does_not_stand(data: bytes, sentence: str) -> None:
    with pytest.raises((MalformedError, RemoteProtocolError), match=sentence):
        ServerAuth(GUID, 1000).receive(memoryview(data))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"REJECTED ANONYMOUS\r\n", "does not take user 1000 \\(it offers: ANONYMOUS"),
        (b"AGREE_UNIX_FD\r\n", "while waiting to be accepted"),
        (b"DATA\r\nDATA\r\n", "answered DATA"),
        (b"ERROR\r\n", "answered ERROR"),
    ],
)
def test_what_a_client_does_not_stand(data: bytes, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError, match=sentence):
        ClientAuth(1000).receive(memoryview(data))


def test_a_server_without_descriptors() -> None:
    client = ClientAuth(1000)
    assert client.receive(memoryview(f"DATA\r\nOK {GUID}\r\n".encode())) == b"DATA\r\nNEGOTIATE_UNIX_FD\r\n"
    assert client.receive(memoryview(b"ERROR\r\n")) == b"BEGIN\r\n"
    assert client.is_done
    assert not client.passes_fds
