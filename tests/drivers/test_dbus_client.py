"""Our client against the reference implementation, and plain dbus-send against what it exports."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tumpline.drivers.dbus import (
    BusConnection,
    BusError,
    BusUnavailableError,
    Call,
    Interface,
    MatchRule,
    Message,
    Method,
    Methods,
    Variant,
)
from tumpline.errors import LocalProtocolError, RefusedError
from tumpline.testing.buses import dbus_daemon, dbus_send

NAME, PATH, IFACE = "org.example.Agent", "/org/example/Agent", "org.example.Agent"
MIB = 1 << 20
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with dbus_daemon(tmp_path) as found:
        yield found


class Agent:
    """Something to export, with a method of each kind."""

    def __init__(self) -> None:
        self.fds: list[int] = []
        methods: Methods = {
            "Add": Method(lambda _call, a, b: a + b, "ii", "i", ("a", "b", "sum")),
            "Both": Method(lambda _call: ("x", 7), "", "sq"),
            "Struct": Method(lambda _call: ("x", 7), "", "(sq)"),
            "Nothing": Method(lambda _call: None),
            "Slow": Method(self._slow, "s", "s"),
            "Refuse": Method(self._refuse),
            "Named": Method(self._named),
            "Break": Method(lambda _call: 1 / 0),
            "Wrong": Method(lambda _call: "text", "", "u"),
            "Length": Method(lambda _call, data: len(data), "ay", "u"),
            "Same": Method(lambda _call, data: data, "ay", "ay"),
            "Store": Method(lambda call, index: os.write(call.fds[index], b"stored"), "h", "i"),
            "Keep": Method(self._keep, "h"),
            "Lend": Method(self._lend, "", "h"),
            "Who": Method(self._who, "", "u"),
            "Kind": (Method(lambda _call, _a: "one", "s", "s"), Method(lambda _call, _a, _b: "two", "si", "s")),
        }
        self.interface = Interface(IFACE, methods, {"Changed": "sa{sv}", "Plain": ""})

    async def _slow(self, _call: Call, text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()

    def _refuse(self, _call: Call) -> None:
        raise RefusedError("not for you; ask the owner")

    def _named(self, _call: Call) -> None:
        raise BusError("org.example.Error.Own", "a sentence")

    def _keep(self, call: Call, index: int) -> None:
        self.fds.append(call.take_fd(index))

    def _lend(self, call: Call) -> int:
        read, write = os.pipe()
        os.write(write, b"lent")
        os.close(write)
        index = call.give_fd(read)
        os.close(read)
        return index

    async def _who(self, call: Call) -> int:
        return await call.uid()


@pytest_asyncio.fixture
async def served(address: str) -> AsyncIterator[tuple[BusConnection, Agent]]:
    connection = await BusConnection.open(address)
    agent = Agent()
    connection.export(PATH, agent.interface)
    await connection.request_name(NAME)
    yield connection, agent
    await connection.close()


@pytest_asyncio.fixture
async def client(address: str) -> AsyncIterator[BusConnection]:
    connection = await BusConnection.open(address)
    yield connection
    await connection.close()


async def said(address: str, method: str, *arguments: str, path: str = PATH) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(dbus_send, address, NAME, path, f"{IFACE}.{method}", *arguments)


async def test_dbus_send_calls_and_is_answered(address: str, served: tuple[BusConnection, Agent]) -> None:
    assert (await said(address, "Add", "int32:2", "int32:40")).stdout.split() == ["int32", "42"]
    assert (await said(address, "Both")).stdout.split() == ["x", "uint16", "7"]
    assert (await said(address, "Nothing")).stdout == ""
    assert (await said(address, "Slow", "string:abc")).stdout.split() == ["ABC"]
    assert (await said(address, "Who")).stdout.split() == ["uint32", str(os.getuid())]
    assert (await said(address, "Kind", "string:a")).stdout.split() == ["one"]
    assert (await said(address, "Kind", "string:a", "int32:1")).stdout.split() == ["two"]


@pytest.mark.parametrize(
    ("method", "arguments", "name", "sentence"),
    [
        ("Missing", [], "org.freedesktop.DBus.Error.UnknownMethod", "has no method org.example.Agent.Missing"),
        (
            "Add",
            ["string:x"],
            "org.freedesktop.DBus.Error.InvalidArgs",
            "takes arguments of the signature (ii), not (s)",
        ),
        ("Kind", [], "org.freedesktop.DBus.Error.InvalidArgs", "(s) or (si), not ()"),
        ("Refuse", [], "org.tumpline.Error.RefusedError", "not for you; ask the owner"),
        ("Named", [], "org.example.Error.Own", "a sentence"),
        ("Break", [], "org.freedesktop.DBus.Error.Failed", "ZeroDivisionError"),
        ("Wrong", [], "org.freedesktop.DBus.Error.Failed", "do not fit the signature 'u'"),
    ],
)
async def test_errors_have_a_name_and_a_sentence(
    address: str,
    served: tuple[BusConnection, Agent],
    method: str,
    arguments: list[str],
    name: str,
    sentence: str,
) -> None:
    told = await said(address, method, *arguments)
    assert told.returncode == 1
    assert told.stderr.startswith(f"Error {name}: "), told.stderr
    assert sentence in told.stderr


async def test_objects_and_interfaces_that_are_not_there(
    served: tuple[BusConnection, Agent], client: BusConnection
) -> None:
    for path, interface, name in [
        ("/org/example/Other", IFACE, "UnknownObject"),
        (PATH, "org.example.Other", "UnknownInterface"),
        ("/org/example", IFACE, "UnknownInterface"),
    ]:
        with pytest.raises(BusError) as caught:
            await client.call(NAME, path, interface, "Nothing")
        assert caught.value.name == f"org.freedesktop.DBus.Error.{name}"
    assert await client.call(NAME, PATH, "", "Nothing") == ()


async def test_introspection_properties_and_peer(address: str, served: tuple[BusConnection, Agent]) -> None:
    standard = "org.freedesktop.DBus"
    found = await asyncio.to_thread(dbus_send, address, NAME, PATH, f"{standard}.Introspectable.Introspect")
    assert '<method name="Add">' in found.stdout
    assert '<arg name="sum" type="i" direction="out"/>' in found.stdout
    assert '<arg type="a{sv}"/>' in found.stdout
    parent = await asyncio.to_thread(dbus_send, address, NAME, "/org", f"{standard}.Introspectable.Introspect")
    assert '<node name="example"/>' in parent.stdout
    everything = await asyncio.to_thread(
        dbus_send, address, NAME, PATH, f"{standard}.Properties.GetAll", f"string:{IFACE}"
    )
    assert everything.returncode == 0
    one = await asyncio.to_thread(
        dbus_send, address, NAME, PATH, f"{standard}.Properties.Get", f"string:{IFACE}", "string:X"
    )
    assert "org.freedesktop.DBus.Error.UnknownProperty" in one.stderr
    assert (await asyncio.to_thread(dbus_send, address, NAME, "/x", f"{standard}.Peer.Ping")).returncode == 0


async def test_signals_reach_who_asked_for_them(
    address: str, served: tuple[BusConnection, Agent], client: BusConnection
) -> None:
    heard: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue()
    rule = MatchRule(sender=NAME, interface=IFACE, path=PATH)

    def hear(message: Message, values: tuple[Any, ...]) -> None:
        heard.put_nowait((message.member, values))

    subscription = await client.subscribe(rule, hear)
    served[0].emit(PATH, IFACE, "Changed", "x", {"k": Variant("u", 7)})
    assert await heard.get() == ("Changed", ("x", {"k": Variant("u", 7)}))
    subscription.cancel()
    served[0].emit(PATH, IFACE, "Plain")
    again = await client.subscribe(rule._replace(member="Changed"), hear)
    served[0].emit(PATH, IFACE, "Changed", "y", {})
    assert await heard.get() == ("Changed", ("y", {}))
    again.cancel()
    with pytest.raises(LocalProtocolError, match="exports no signal"):
        served[0].emit(PATH, IFACE, "Unknown")


async def test_a_signal_of_dbus_send_is_heard(address: str, client: BusConnection) -> None:
    heard: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
    await client.subscribe(MatchRule(interface=IFACE), lambda _message, values: heard.put_nowait(values))
    command = ["dbus-send", f"--bus={address}", "--type=signal", PATH, f"{IFACE}.Said", "array:string:a,b", "byte:1"]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=20)
    assert await heard.get() == (["a", "b"], 1)


async def test_16_mib_there_and_back(served: tuple[BusConnection, Agent], client: BusConnection) -> None:
    data = os.urandom(16 * MIB)
    assert await client.call(NAME, PATH, IFACE, "Same", "ay", data) == (data,)


async def test_descriptors_cross_the_bus(served: tuple[BusConnection, Agent], client: BusConnection) -> None:
    read, write = os.pipe()
    assert await client.call(NAME, PATH, IFACE, "Store", "h", 0, fds=[write]) == (6,)
    await client.call(NAME, PATH, IFACE, "Keep", "h", 0, fds=[write])
    os.write(served[1].fds[0], b"+kept")
    os.close(served[1].fds[0])
    os.close(write)
    assert os.read(read, 100) == b"stored+kept"
    assert os.read(read, 100) == b"", "somebody holds the other end open still"
    os.close(read)
    answer = await client.call_message(Message(1, 0, PATH, IFACE, "Lend", destination=NAME))
    assert os.read(answer.fds[answer.values[0]], 100) == b"lent"
    os.close(answer.fds[0])


async def test_a_call_that_is_cancelled_leaves_no_descriptor(
    served: tuple[BusConnection, Agent], client: BusConnection
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    message = Message(1, 0, PATH, IFACE, "Lend", destination=NAME)
    for turns in range(30):  # before it is sent, while it is away, in the turn of its answer
        calling = asyncio.gather(client.call_message(message))
        for _ in range(turns):
            await asyncio.sleep(0)
        calling.cancel()
        answer: Any
        for answer in await asyncio.gather(calling, return_exceptions=True):
            if isinstance(answer, list):
                os.close(answer[0].fds[0])
    await client.call(NAME, PATH, IFACE, "Nothing")
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_name_has_one_owner(served: tuple[BusConnection, Agent], client: BusConnection) -> None:
    with pytest.raises(BusError) as caught:
        await client.request_name(NAME)
    assert caught.value.name == "org.tumpline.Error.NameTaken"
    assert f"by {served[0].unique_name}, process {os.getpid()}" in caught.value.text
    await served[0].release_name(NAME)
    await client.request_name(NAME)
    assert await client.uid_of(NAME) == os.getuid()


async def test_calls_that_nobody_answers(address: str, client: BusConnection) -> None:
    with pytest.raises(BusError) as caught:
        await client.call("org.example.Nobody", "/", IFACE, "Do")
    assert caught.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"
    deaf = await BusConnection.open(address)
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    deaf.export("/", Interface(IFACE, {"Do": Method(lambda _call: never)}))
    with pytest.raises(BusError) as caught:
        await client.call(deaf.unique_name, "/", IFACE, "Do", timeout_s=0.05)
    assert caught.value.name == "org.freedesktop.DBus.Error.NoReply"
    await deaf.close()


async def test_the_end_is_told(tmp_path: Path) -> None:
    with dbus_daemon(tmp_path) as address:
        connection = await BusConnection.open(address)
        other = await BusConnection.open(address)
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        other.export("/", Interface(IFACE, {"Do": Method(lambda _call: never)}))
        waiting = asyncio.gather(connection.call(other.unique_name, "/", IFACE, "Do"), return_exceptions=True)
        await connection.uid_of(other.unique_name)
    assert await connection.closed() == "the other end closed the connection"
    (error,) = await waiting
    assert isinstance(error, BusError)
    assert error.name == "org.freedesktop.DBus.Error.Disconnected"
    with pytest.raises(BusError, match="not connected to the bus"):
        await connection.call("org.example.Nobody", "/", IFACE, "Do")
    await other.close()
    await connection.close()


async def test_no_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address, sentence in [
        (f"unix:path={tmp_path}/none", "no such file"),
        ("nonsense", "write unix:path="),
        ("tcp:host=localhost,port=1", "no address of a UNIX socket"),
    ]:
        with pytest.raises(BusUnavailableError, match=sentence):
            await BusConnection.open(address)
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(BusUnavailableError, match="there is no session bus here"):
        await BusConnection.open("session")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "closed the connection"),
        (b"REJECTED EXTERNAL\r\n", "does not take user"),
        (b"x" * 4000, "more than 1024 octets"),
        (b"OK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n" + b"\xff" * 64, "no D-Bus message"),
    ],
)
async def test_hostile_buses(tmp_path: Path, answer: bytes, sentence: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/b")
        listener.listen()
        listener.setblocking(False)
        opening = asyncio.gather(BusConnection.open(f"unix:path={tmp_path}/b"), return_exceptions=True)
        loop = asyncio.get_running_loop()
        peer, _ = await loop.sock_accept(listener)
        await loop.sock_sendall(peer, answer)
        if not answer:
            peer.close()
        (error,) = await opening
        peer.close()
    assert isinstance(error, BusUnavailableError)
    assert sentence in str(error)


async def test_a_silent_bus_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/b")
        listener.listen()
        with pytest.raises(BusUnavailableError, match=r"within 0\.05 s"):
            await BusConnection.open(f"unix:path={tmp_path}/b", timeout_s=0.05)


async def test_a_method_may_end_its_own_connection(address: str, client: BusConnection) -> None:
    leaving = await BusConnection.open(address)

    async def leave(_call: Call) -> None:
        await leaving.close()

    leaving.export("/", Interface(IFACE, {"Leave": Method(leave)}))
    with pytest.raises(BusError) as caught:
        await client.call(leaving.unique_name, "/", IFACE, "Leave")
    assert caught.value.name == "org.freedesktop.DBus.Error.NoReply"
    assert await leaving.closed() == "closed here"


async def test_calls_that_run_are_bounded(
    served: tuple[BusConnection, Agent], client: BusConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def wait(_call: Call, data: bytes) -> int:
        await go_on.wait()
        return len(data)

    served[0].export(PATH, Interface(IFACE, {"Wait": Method(wait, "ay", "u")}))
    for bound, value in (("RUNNING_MOST", 2), ("RUNNING_OCTETS_MOST", 10)):
        with monkeypatch.context() as patch:
            patch.setattr(f"tumpline.drivers.dbus.dispatch.{bound}", value)
            go_on.clear()
            calls = [asyncio.gather(client.call(NAME, PATH, IFACE, "Wait", "ay", b"abc")) for _ in range(3)]
            (refused,), _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            go_on.set()
            with pytest.raises(BusError) as caught:
                await refused
            assert caught.value.name == "org.freedesktop.DBus.Error.LimitsExceeded"
            assert [(await each)[0] for each in calls if each is not refused] == [(3,), (3,)]


async def test_many_who_wait_hold_no_octets(
    served: tuple[BusConnection, Agent], client: BusConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tumpline.drivers.dbus.connection.BUSY_OCTETS", 2 * MIB)
    data, most = bytes(MIB), 0
    calls = asyncio.gather(*(client.call(NAME, PATH, IFACE, "Length", "ay", data) for _ in range(20)))
    while not calls.done():
        most = max(most, client._machine.outbox.octets)
        await asyncio.sleep(0)
    assert await calls == [(MIB,)] * 20
    assert MIB < most < 4 * MIB
