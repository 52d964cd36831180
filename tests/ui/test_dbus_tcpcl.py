"""The TCPCL agent on a bus: the older agent's names, signatures and signals, and what it lacked."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tumpline.drivers.dbus import BusConnection, BusError, BusUnavailableError, MatchRule, Message, Variant
from tumpline.drivers.dbus.server import EmbeddedBus
from tumpline.drivers.dial import parse_address
from tumpline.drivers.links._tcpcl4_config import Tcpcl4Config
from tumpline.errors import TumplineError
from tumpline.node.cla.settings import TcpclAgentSettings
from tumpline.node.cla.tcpcl import TcpclAgent
from tumpline.testing.buses import dbus_daemon, dbus_send
from tumpline.ui.dbus.tcpcl import AGENT, AGENT_PATH, CONTACT, contact_path, serve_tcpcl
from tumpline.wire.dbus import Kind
from tumpline.wire.tcpcl4 import SessionInit, encode_init

HANG_S = 20.0
SERVER, CLIENT = "dtn.server.tcpcl", "dtn.client.tcpcl"
pytestmark = pytest.mark.timeout(60)

# The older agent's interfaces: what a program finds that was written for it.
AGENT_METHODS = {
    "get_connections": ("", "ao"),
    "shutdown": ("", "b"),
    "stop": ("", ""),
    "listen": ("sq", ""),
    "listen_stop": ("sq", ""),
    "connect": ("sq", "o"),
}
AGENT_SIGNALS = {"connection_opened": "o", "connection_closed": "o"}
CONTACT_METHODS = {
    "get_session_state": ("", "s"),
    "get_session_parameters": ("", "a{sv}"),
    "is_secure": ("", "b"),
    "is_sess_idle": ("", "b"),
    "terminate": ("y", ""),
    "close": ("", ""),
    "send_bundle_data": ("ay", "s"),
    "send_bundle_file": ("s", "s"),
    "send_bundle_get_queue": ("", "as"),
    "recv_bundle_get_queue": ("", "as"),
    "recv_bundle_pop_data": ("s", "ay"),
    "recv_bundle_pop_file": ("ss", ""),
}
OUR_AGENT_METHODS = {"recv_bundle_hold": ("b", "")}
OUR_METHODS = {
    "send_bundle_fd": ("h", "s"),
    "recv_bundle_pop_fd": ("s", "h"),
    "recv_bundle_accept": ("s", ""),
    "recv_bundle_refuse": ("ss", ""),
}
CONTACT_SIGNALS = {
    "session_state_changed": "s",
    "send_bundle_started": "st",
    "send_bundle_intermediate": "st",
    "send_bundle_finished": "sts",
    "recv_bundle_started": "sv",
    "recv_bundle_intermediate": "st",
    "recv_bundle_finished": "sts",
}


@pytest_asyncio.fixture(params=["dbus-daemon", "embedded"])
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "dbus-daemon":
        with dbus_daemon(tmp_path) as found:
            yield found
        return
    with tempfile.TemporaryDirectory() as directory:  # a socket's path is short
        bus = EmbeddedBus.start(f"unix:path={directory}/bus")
        yield bus.address
        bus.close()


class Served:
    """Agents that serve until the test ends."""

    def __init__(self, address: str, directory: Path) -> None:
        self.address = address
        self._directory = directory
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()

    async def start(self, name: str, **settings: Any) -> TcpclAgent:
        found: asyncio.Future[TcpclAgent] = asyncio.get_running_loop().create_future()
        given = {"spool_directory": self._directory, **settings}
        made = TcpclAgentSettings(bus_address=self.address, bus_service=name, **given)
        self.tasks[name] = self._group.create_task(serve_tcpcl(made, found.set_result))
        return await found

    async def __aenter__(self) -> Served:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        for task in self.tasks.values():
            task.cancel()
        await self._group.__aexit__(*error)


class Program:
    """Somebody on the bus who calls agents and remembers their signals."""

    def __init__(self, bus: BusConnection) -> None:
        self.bus = bus
        self.signals: list[tuple[str, str, str, tuple[Any, ...]]] = []  # sender, path, member, values
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        await self.bus.subscribe(MatchRule(kind=Kind.SIGNAL, path_namespace="/org/ietf/dtn"), self._heard)

    def _heard(self, message: Message, values: tuple[Any, ...]) -> None:
        self.signals.append((message.sender, message.path, message.member, values))
        self._changed.set()

    def of(self, member: str, path: str = "") -> list[tuple[Any, ...]]:
        return [values for _, at, name, values in self.signals if name == member and path in ("", at)]

    async def until(
        self, member: str, fits: Callable[[tuple[Any, ...]], bool] = lambda _: True, number: int = 1
    ) -> Any:
        async with asyncio.timeout(HANG_S):
            while len(found := [values for values in self.of(member) if fits(values)]) < number:
                self._changed.clear()
                await self._changed.wait()
        return found[number - 1]

    async def agent(self, service: str, member: str, signature: str = "", *arguments: Any) -> Any:
        values = await self.bus.call(service, AGENT_PATH, AGENT, member, signature, *arguments)
        return values[0] if values else None

    async def contact(
        self, service: str, member: str, signature: str = "", *arguments: Any, number: int = 0, fds: Any = ()
    ) -> Any:
        path = contact_path(number)
        values = await self.bus.call(service, path, CONTACT, member, signature, *arguments, fds=fds)
        return values[0] if values else None


@pytest_asyncio.fixture
async def served(address: str, tmp_path: Path) -> AsyncIterator[Served]:
    async with Served(address, tmp_path) as found:
        yield found


@pytest_asyncio.fixture
async def program(address: str) -> AsyncIterator[Program]:
    bus = await BusConnection.open(address)
    made = Program(bus)
    await made.listen()
    yield made
    await bus.close()


async def session(served: Served, program: Program, **settings: Any) -> int:
    """Two agents whose Contact0 have a session. The server's port."""
    server = await served.start(SERVER, node_id="dtn://server/", link=Tcpcl4Config(listen="127.0.0.1:0"), **settings)
    await served.start(CLIENT, node_id="dtn://client/", **settings)
    port = parse_address(server.listening[0], 0).port
    assert await program.agent(CLIENT, "connect", "sq", "127.0.0.1", port) == contact_path(0)
    await program.until("session_state_changed", lambda values: values == ("established",), 2)
    return port


def described(xml: str, name: str) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Methods and signals of an interface, with their signatures."""
    interface = ElementTree.fromstring(xml).find(f"interface[@name='{name}']")
    assert interface is not None

    def signature(of: ElementTree.Element, direction: str) -> str:
        return "".join(arg.attrib["type"] for arg in of.findall("arg") if arg.get("direction", "out") == direction)

    methods = {
        each.attrib["name"]: (signature(each, "in"), signature(each, "out")) for each in interface.findall("method")
    }
    return methods, {each.attrib["name"]: signature(each, "out") for each in interface.findall("signal")}


# ---- interfaces ------------------------------------------------------------------------------------------------------


async def test_the_interfaces_are_the_older_agents(served: Served, program: Program) -> None:
    await session(served, program)
    for path, name, methods, signals in (
        (AGENT_PATH, AGENT, AGENT_METHODS | OUR_AGENT_METHODS, AGENT_SIGNALS),
        (contact_path(0), CONTACT, CONTACT_METHODS | OUR_METHODS, CONTACT_SIGNALS),
    ):
        (xml,) = await program.bus.call(SERVER, path, "org.freedesktop.DBus.Introspectable", "Introspect")
        assert described(xml, name) == (methods, signals)


async def test_dbus_send_is_understood(served: Served, program: Program) -> None:
    await session(served, program)

    async def send(path: str, method: str, *arguments: str) -> str:
        done = await asyncio.to_thread(dbus_send, served.address, CLIENT, path, method, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert contact_path(0) in await send(AGENT_PATH, f"{AGENT}.get_connections")
    assert await send(contact_path(0), f"{CONTACT}.get_session_state") == "established"
    assert await send(contact_path(0), f"{CONTACT}.send_bundle_data", "array:byte:1,2,3") == "1"
    await program.until("recv_bundle_finished")
    assert await program.contact(SERVER, "recv_bundle_pop_data", "s", "1") == b"\x01\x02\x03"
    assert await send(AGENT_PATH, f"{AGENT}.shutdown") == "boolean false"


# ---- sessions --------------------------------------------------------------------------------------------------------


async def test_a_session_from_connect_to_terminate(served: Served, program: Program) -> None:
    await session(served, program)
    assert await program.agent(SERVER, "get_connections") == [contact_path(0)]
    parameters = await program.contact(CLIENT, "get_session_parameters")
    assert parameters == {
        "peer_nodeid": Variant("s", "dtn://server/"),
        "peer_ipaddrid": Variant("s", "127.0.0.1"),
        "keepalive": Variant("i", 60),
        "peer_transfer_mru": Variant("i", (1 << 31) - 1),
        "peer_segment_mru": Variant("i", 16 << 20),
    }
    assert await program.contact(CLIENT, "is_secure") is False
    assert await program.contact(CLIENT, "is_sess_idle") is True
    await program.contact(CLIENT, "terminate", "y", 0)
    await program.until("connection_closed", number=2)
    assert await program.agent(CLIENT, "get_connections") == []
    with pytest.raises(BusError, match="there is no object"):
        await program.contact(CLIENT, "get_session_state")
    states = [values[0] for sender, _, member, values in program.signals if member == "session_state_changed"]
    assert sorted(states) == sorted(["contact-negotiating", "session-negotiating", "established", "ending"] * 2)


async def test_a_second_connection_is_a_second_contact(served: Served, program: Program) -> None:
    port = await session(served, program)
    await program.contact(CLIENT, "close")
    await program.until("connection_closed", number=2)
    assert await program.agent(CLIENT, "connect", "sq", "127.0.0.1", port) == contact_path(1)
    assert await program.agent(CLIENT, "get_connections") == [contact_path(1)]
    await program.agent(SERVER, "listen_stop", "sq", "127.0.0.1", port)
    with pytest.raises(BusError, match="connection refused") as raised:
        await program.agent(CLIENT, "connect", "sq", "127.0.0.1", port)
    assert raised.value.name == "org.tumpline.Error.DialError"


async def test_errors_have_names_and_sentences(served: Served, program: Program) -> None:
    await session(served, program)
    for member, signature, arguments, name, sentence in (
        ("recv_bundle_pop_data", "s", ("7",), "org.tumpline.Error.UnknownTransferError", "no received bundle '7'"),
        ("send_bundle_file", "s", ("/nonexistent",), "org.freedesktop.DBus.Error.FileNotFound", "No such file"),
        ("send_bundle_file", "s", ("/dev/null",), "org.tumpline.Error.TumplineError", "no regular file"),
        ("send_bundle_data", "s", ("x",), "org.freedesktop.DBus.Error.InvalidArgs", r"\(ay\), not \(s\)"),
        ("nothing", "", (), "org.freedesktop.DBus.Error.UnknownMethod", "no method"),
    ):
        with pytest.raises(BusError, match=sentence) as raised:
            await program.contact(CLIENT, member, signature, *arguments)
        assert raised.value.name == name
    with pytest.raises(BusError, match=r"does not listen on 127\.0\.0\.1:9"):
        await program.agent(CLIENT, "listen_stop", "sq", "127.0.0.1", 9)


# ---- transfers -------------------------------------------------------------------------------------------------------


async def test_signals_of_a_transfer_in_their_order(served: Served, program: Program) -> None:
    await session(served, program)
    data = os.urandom(5_000_000)
    assert await program.contact(CLIENT, "send_bundle_data", "ay", data) == "1"
    await program.until("send_bundle_finished")
    told = [(member, values) for _, _, member, values in program.signals if "bundle" in member]
    sent = [(member, values) for member, values in told if member.startswith("send")]
    received = [(member, values) for member, values in told if member.startswith("recv")]
    assert sent[0] == ("send_bundle_started", ("1", len(data)))
    assert sent[-1] == ("send_bundle_finished", ("1", len(data), "success"))
    assert {member for member, _ in sent[1:-1]} == {"send_bundle_intermediate"}
    assert received[0] == ("recv_bundle_started", ("1", Variant("t", len(data))))
    assert received[-1] == ("recv_bundle_finished", ("1", len(data), "success"))
    assert {member for member, _ in received[1:-1]} == {"recv_bundle_intermediate"}
    progress = [values[1] for member, values in received[1:-1]]
    assert progress == sorted(progress)
    assert await program.contact(SERVER, "recv_bundle_get_queue") == ["1"]
    assert await program.contact(SERVER, "recv_bundle_pop_data", "s", "1") == data
    assert await program.contact(SERVER, "recv_bundle_get_queue") == []


async def test_a_value_of_many_mib(served: Served, program: Program) -> None:
    """[S]: octet by octet, the older agent took seconds for one of these."""
    await session(served, program)
    data = os.urandom(1 << 20) * 20
    await program.contact(CLIENT, "send_bundle_data", "ay", data)
    await program.until("recv_bundle_finished")
    assert await program.contact(SERVER, "recv_bundle_pop_data", "s", "1") == data


async def test_what_no_value_holds_stays_for_a_file(served: Served, program: Program, tmp_path: Path) -> None:
    await session(served, program)
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate((64 << 20) + 1)
    await program.contact(CLIENT, "send_bundle_file", "s", str(source))
    await program.until("recv_bundle_finished")
    with pytest.raises(BusError, match="take it by recv_bundle_pop_file or recv_bundle_pop_fd"):
        await program.contact(SERVER, "recv_bundle_pop_data", "s", "1")
    await program.contact(SERVER, "recv_bundle_pop_file", "ss", "1", str(tmp_path / "target"))
    assert (tmp_path / "target").stat().st_size == source.stat().st_size


async def test_files_by_path(served: Served, program: Program, tmp_path: Path) -> None:
    await session(served, program)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3_000_000))
    number = await program.contact(CLIENT, "send_bundle_file", "s", str(source))
    assert await program.contact(CLIENT, "send_bundle_get_queue") in ([number], [])
    await program.until("recv_bundle_finished")
    with pytest.raises(BusError, match="File exists") as raised:
        await program.contact(SERVER, "recv_bundle_pop_file", "ss", number, str(source))
    assert raised.value.name == "org.freedesktop.DBus.Error.FileExists"
    await program.contact(SERVER, "recv_bundle_pop_file", "ss", number, str(target))
    assert target.read_bytes() == source.read_bytes()


async def test_files_by_descriptor(served: Served, program: Program, tmp_path: Path) -> None:
    await session(served, program)
    with (tmp_path / "source").open("w+b") as source:
        source.write(data := os.urandom(3_000_000))
        source.flush()
        number = await program.contact(CLIENT, "send_bundle_fd", "h", 0, fds=[source.fileno()])
    await program.until("recv_bundle_finished")
    message = Message(Kind.CALL, 0, contact_path(0), CONTACT, "recv_bundle_pop_fd", destination=SERVER)
    answer = await program.bus.call_message(message.with_body("s", number))
    assert answer.values == (0,)
    (taken,) = answer.fds
    with open(taken, "rb") as file:
        assert file.read() == data


async def test_paths_are_only_for_the_agents_own_user(
    served: Served, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session(served, program)
    (tmp_path / "source").write_bytes(b"x")

    async def stranger(_call: Any) -> int:
        return os.getuid() + 4711

    monkeypatch.setattr("tumpline.drivers.dbus.Call.uid", stranger)
    for member, signature, arguments in (
        ("send_bundle_file", "s", (str(tmp_path / "source"),)),
        ("recv_bundle_pop_file", "ss", ("1", str(tmp_path / "target"))),
    ):
        with pytest.raises(
            BusError, match=f"may not name files that user {os.getuid()} opens: open the file yourself"
        ) as raised:
            await program.contact(CLIENT, member, signature, *arguments)
        assert raised.value.name == "org.freedesktop.DBus.Error.AccessDenied"
    assert await program.contact(CLIENT, "send_bundle_get_queue") == []


async def test_a_full_queue_is_said(served: Served, program: Program) -> None:
    await session(served, program, memory_octets_most=1000)
    with pytest.raises(BusError, match="1000 octets wait") as raised:
        await program.contact(CLIENT, "send_bundle_data", "ay", bytes(1001))
    assert raised.value.name == "org.freedesktop.DBus.Error.LimitsExceeded"


# ---- the agent's life ------------------------------------------------------------------------------------------------


async def test_shutdown_and_stop_leave_nothing(served: Served, program: Program) -> None:
    await session(served, program)
    assert await program.agent(CLIENT, "shutdown") is False
    assert await program.agent(SERVER, "stop") is None
    async with asyncio.timeout(HANG_S):
        for name in (CLIENT, SERVER):
            await served.tasks[name]
    (names,) = await program.bus.call(
        "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames"
    )
    assert not {CLIENT, SERVER} & set(names)
    await served.start(SERVER)
    assert await program.agent(SERVER, "shutdown") is True


async def test_sigterm_shuts_down_and_a_second_one_stops(served: Served, program: Program) -> None:
    agent = await served.start(CLIENT)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes the connection and says nothing more
        silent.setblocking(False)
        await program.agent(CLIENT, "connect", "sq", *silent.getsockname())
        loop = asyncio.get_running_loop()
        peer, _ = await loop.sock_accept(silent)
    with peer:
        await loop.sock_sendall(peer, b"dtn!\x04\x00" + encode_init(SessionInit(0, 1 << 20, 1 << 40, b"")))
        await program.until("session_state_changed", lambda values: values == ("established",))
        os.kill(os.getpid(), signal.SIGTERM)
        await program.until("session_state_changed", lambda values: values == ("ending",))
        assert agent.connections == [0]
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(HANG_S):
            await served.tasks[CLIENT]


async def test_a_bus_that_returns_finds_the_agent_with_its_connections(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:path={directory}/bus"
        bus = EmbeddedBus.start(address)
        async with Served(address, tmp_path) as served:
            program = Program(await BusConnection.open(address))
            await program.listen()
            await session(served, program)
            await program.bus.close()
            bus.close()
            bus = EmbeddedBus.start(address)
            program = Program(await BusConnection.open(address))
            await owned(program.bus, CLIENT, SERVER)
            await program.listen()
            assert await program.contact(CLIENT, "get_session_state") == "established"
            await program.contact(CLIENT, "send_bundle_data", "ay", b"on")
            assert await program.until("recv_bundle_finished") == ("1", 2, "success")
            await program.bus.close()
        bus.close()


async def owned(bus: BusConnection, *names: str) -> None:
    """Wait until somebody has all these names."""
    changed = asyncio.Event()
    await bus.subscribe(MatchRule(kind=Kind.SIGNAL, member="NameOwnerChanged"), lambda *_: changed.set())
    async with asyncio.timeout(HANG_S):
        while True:
            changed.clear()
            (listed,) = await bus.call(
                "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames"
            )
            if set(names) <= set(listed):
                return
            await changed.wait()


async def test_a_name_that_is_taken_and_a_bus_that_is_not_there(address: str, tmp_path: Path, program: Program) -> None:
    await program.bus.request_name(CLIENT)
    taken = TcpclAgentSettings(bus_address=address, bus_service=CLIENT, spool_directory=tmp_path)
    with pytest.raises(BusError, match="is taken on this bus"):
        await serve_tcpcl(taken)
    nowhere = TcpclAgentSettings(bus_address=f"unix:path={tmp_path}/no", spool_directory=tmp_path)
    with pytest.raises(BusUnavailableError):
        await serve_tcpcl(nowhere)


async def test_an_agent_that_cannot_listen_takes_no_name(served: Served, program: Program, tmp_path: Path) -> None:
    server = await served.start(SERVER, link=Tcpcl4Config(listen="127.0.0.1:0"))
    again = TcpclAgentSettings(
        bus_address=served.address,
        bus_service=CLIENT,
        spool_directory=tmp_path,
        link=Tcpcl4Config(listen=server.listening[0]),
    )
    with pytest.raises(TumplineError, match="port in use"):
        await serve_tcpcl(again)
    with pytest.raises(BusError) as raised:
        await program.agent(CLIENT, "get_connections")
    assert raised.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"


# ---- those who answer for what they take -----------------------------------------------------------------------------


async def sent(program: Program, data: bytes) -> str:
    """A bundle on its way from client to server."""
    name: str = await program.contact(CLIENT, "send_bundle_data", "ay", data)
    return name


async def arrived(program: Program, number: int) -> str:
    name: str = (await program.until("recv_bundle_finished", lambda values: values[2] == "success", number))[0]
    return name


def finished(name: str) -> Callable[[tuple[Any, ...]], bool]:
    return lambda values: bool(values[0] == name)


async def test_who_holds_answers_for_each_bundle(served: Served, program: Program) -> None:
    await session(served, program)
    await program.agent(SERVER, "recv_bundle_hold", "b", True)
    names = [await sent(program, b"one"), await sent(program, b"two"), await sent(program, bytes(300_000))]
    first, second, third = [await arrived(program, number) for number in (1, 2, 3)]
    assert not program.of("send_bundle_finished")
    assert await program.contact(SERVER, "recv_bundle_pop_data", "s", first) == b"one"
    await program.contact(SERVER, "recv_bundle_accept", "s", first)
    await program.contact(SERVER, "recv_bundle_refuse", "ss", second, "no resources")
    await program.contact(SERVER, "recv_bundle_refuse", "ss", third, "not acceptable")
    ends = [await program.until("send_bundle_finished", finished(name)) for name in names]
    assert [end[2] for end in ends] == ["success", "no resources", "not acceptable"]
    assert await program.contact(SERVER, "recv_bundle_get_queue") == []


async def test_what_is_answered_twice_or_wrongly_is_named(served: Served, program: Program) -> None:
    await session(served, program)
    await sent(program, b"before")
    before = await arrived(program, 1)
    await program.agent(SERVER, "recv_bundle_hold", "b", True)
    await sent(program, b"held")
    held = await arrived(program, 2)
    with pytest.raises(BusError, match="no reason to refuse; write one of: no resources"):
        await program.contact(SERVER, "recv_bundle_refuse", "ss", held, "bad luck")
    await program.contact(SERVER, "recv_bundle_accept", "s", held)
    for number in (before, held, "99"):
        with pytest.raises(BusError, match="has its answer") as caught:
            await program.contact(SERVER, "recv_bundle_accept", "s", number)
        assert caught.value.name == "org.tumpline.Error.UnknownTransferError"
    assert await program.contact(SERVER, "recv_bundle_get_queue") == [before]


@pytest.mark.parametrize("leaves", [True, False])
async def test_when_nobody_holds_any_more_what_was_taken_is_sent_again(
    served: Served, program: Program, address: str, leaves: bool
) -> None:
    """Whoever took a bundle and went without a word may not have kept it; what waits is kept by the agent."""
    await session(served, program)
    other = Program(await BusConnection.open(address))
    await other.agent(SERVER, "recv_bundle_hold", "b", True)
    taken, waits = await sent(program, b"taken"), await sent(program, b"waits")
    first, second = await arrived(program, 1), await arrived(program, 2)
    await other.contact(SERVER, "recv_bundle_pop_data", "s", first)
    if leaves:
        await other.bus.close()
    else:
        await other.agent(SERVER, "recv_bundle_hold", "b", False)
    ends = [await program.until("send_bundle_finished", finished(name)) for name in (taken, waits)]
    assert [end[2] for end in ends] == ["retransmit", "success"]
    assert await program.contact(SERVER, "recv_bundle_get_queue") == [second]
    await other.bus.close()
