"""D-Bus against what nobody here wrote: the octets of dbus-send, and what dbus-daemon makes of ours."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tumpline.wire.dbus import (
    FIRST_OCTETS,
    AuthLine,
    Command,
    Kind,
    Message,
    Variant,
    decode_auth_line_untrusted,
    decode_message_untrusted,
    encode_auth_line,
    encode_identity,
    encode_message,
    message_octets,
)

GUID = "0123456789abcdef0123456789abcdef"
BUS = Message(Kind.CALL, 1, "/org/freedesktop/DBus", "org.freedesktop.DBus", destination="org.freedesktop.DBus")
HANG_S = 20


class Connection:
    """A blocking connection: lines first, messages then."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(HANG_S)
        self._file = sock.makefile("rb")
        self._sock = sock

    def line(self) -> AuthLine:
        line = self._file.readline()
        assert line.endswith(b"\r\n")
        return decode_auth_line_untrusted(line[:-2].lstrip(b"\0"))

    def send(self, octets: bytes) -> None:
        self._sock.sendall(octets)

    def message(self) -> Message:
        first = self._file.read(FIRST_OCTETS)
        return decode_message_untrusted(first + self._file.read(message_octets(first) - FIRST_OCTETS))

    def answer_to(self, call: Message) -> Message:
        self.send(encode_message(call))
        while (found := self.message()).reply_serial != call.serial:
            pass
        return found

    def close(self) -> None:
        self._file.close()
        self._sock.close()


def test_what_dbus_send_says(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "peer"))
        listener.listen()
        arguments = ["string:é", "int32:-1", "double:0.5", "boolean:true", "objpath:/x", "byte:7", "uint64:9"]
        arguments += ["array:string:a,b", "dict:string:int32:k,1", "variant:int64:-5"]
        command = ["dbus-send", f"--peer=unix:path={tmp_path}/peer", "--type=method_call", "/a", "org.example.A.Do"]
        with subprocess.Popen([*command, *arguments]) as sender:
            connection = Connection(listener.accept()[0])
            message = _accepted(connection)
            connection.close()
    assert sender.returncode == 0
    assert message[:7] == (Kind.CALL, message.serial, "/a", "org.example.A", "Do", "", 0)
    said = ("é", -1, 0.5, True, "/x", 7, 9, ["a", "b"], {"k": 1}, Variant("x", -5))
    assert message.body_values() == said
    assert encode_message(message.with_body("sidboytasa{si}v", *said)) == encode_message(message)


def _accepted(connection: Connection) -> Message:
    """Be the server of a peer until its first message."""
    assert connection.line() == AuthLine(Command.AUTH, f"EXTERNAL {encode_identity(str(os.getuid()))}")
    connection.send(encode_auth_line(Command.OK, GUID))
    assert connection.line().command is Command.NEGOTIATE_UNIX_FD
    connection.send(encode_auth_line(Command.AGREE_UNIX_FD))
    assert connection.line().command is Command.BEGIN
    return connection.message()


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "bus"
    command = [
        "dbus-daemon",
        "--session",
        "--nofork",
        "--nopidfile",
        f"--address=unix:path={path}",
        "--print-address=1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        yield path
        daemon.terminate()


def _joined(path: Path) -> tuple[Connection, str]:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    connection = Connection(sock)
    connection.send(b"\0" + encode_auth_line(Command.AUTH, "EXTERNAL", encode_identity(str(os.getuid()))))
    assert connection.line().command is Command.OK
    connection.send(encode_auth_line(Command.BEGIN))
    (name,) = connection.answer_to(BUS._replace(member="Hello")).body_values()
    return connection, name


@pytest.mark.parametrize("big_endian", [False, True])
def test_what_dbus_daemon_understands(bus: Path, big_endian: bool) -> None:
    connection, name = _joined(bus)
    call = BUS._replace(serial=2, big_endian=big_endian)
    answer = connection.answer_to(call._replace(member="GetConnectionCredentials").with_body("s", name))
    assert answer.body_values()[0]["UnixUserID"] == Variant("u", os.getuid())
    # The daemon checks every octet of a message that it passes on, and closes where one is wrong.
    signature, values = _everything()
    sent = Message(Kind.SIGNAL, 3, "/a", "org.example.A", "Done", destination=name, big_endian=big_endian)
    connection.send(encode_message(sent.with_body(signature, *values)))
    while (heard := connection.message()).member != "Done":
        pass
    assert heard.sender == name
    assert heard.body_values() == values
    connection.close()


def _everything() -> tuple[str, tuple[Any, ...]]:
    nested = [{"k": Variant("a(yv)", [(1, Variant("ay", b"x"))])}, {}]
    numbers = (7, True, -2, 2, -3, 3, -4, 4, 0.5)
    return "ybnqiuxtdsogaiaxa{ss}aa{sv}(y(x))", (
        *numbers, "é", "/a/b", "a{sv}", [1, 2], [], {}, nested, (1, (2,)),
    )  # fmt: skip
