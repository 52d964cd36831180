"""The embedded bus as others see it: plain tools, files, who comes first, who takes over."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.drivers.dbus import (
    BusConnection,
    BusError,
    BusUnavailableError,
    EmbeddedBus,
    Interface,
    MatchRule,
    Method,
    PlaceTakenError,
    Presence,
)
from tumpline.machines.dbus_bus import Credentials
from tumpline.testing.buses import dbus_daemon, dbus_send
from tumpline.testing.memory_bus import MemoryBus

NAME, PATH, IFACE = "org.example.Agent", "/org/example/Agent", "org.example.Agent"
pytestmark = pytest.mark.timeout(60)


def interface() -> Interface:
    return Interface(IFACE, {"Add": Method(lambda _call, a, b: a + b, "ii", "i", ("a", "b", "sum"))}, {"Changed": "s"})


def hosts(presence: Presence) -> bool:
    return presence.is_hosting


async def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    def work() -> subprocess.CompletedProcess[str]:
        found = {**os.environ, **environment}
        return subprocess.run(command, capture_output=True, text=True, timeout=30, env=found, check=False)

    return await asyncio.to_thread(work)


async def test_plain_tools(tmp_path: Path) -> None:
    bus = EmbeddedBus.start(f"unix:path={tmp_path}/b")
    agent = Presence(bus.address, NAME)
    agent.export(PATH, interface())
    await agent.start()
    plain = f"unix:path={tmp_path}/b"
    sent = await asyncio.to_thread(dbus_send, plain, NAME, PATH, f"{IFACE}.Add", "int32:40", "int32:2")
    assert sent.stdout.split() == ["int32", "42"]
    arguments = ["--dest", NAME, "--object-path", PATH]
    called = await run("gdbus", "call", "--address", bus.address, *arguments, "--method", f"{IFACE}.Add", "40", "2")
    assert called.stdout == "(42,)\n", called.stderr
    shown = await run("gdbus", "introspect", "--address", plain, *arguments)
    assert "Add(in  i a," in shown.stdout, shown.stderr
    called = await run("busctl", f"--address={plain}", "call", NAME, PATH, IFACE, "Add", "ii", "40", "2")
    assert called.stdout == "i 42\n", called.stderr
    tree = await run("busctl", f"--address={plain}", "tree", NAME)
    assert "/org/example/Agent" in tree.stdout, tree.stderr
    listed = await run("busctl", f"--address={plain}", "list", "--no-pager")
    assert NAME in listed.stdout, listed.stderr
    await agent.stop()
    bus.close()


async def test_a_session_lives_on_it(tmp_path: Path) -> None:
    """DBUS_SESSION_BUS_ADDRESS leads plain tools there, their signals are heard, and errors have their names."""
    bus = EmbeddedBus.start(f"unix:path={tmp_path}/b")
    client = await BusConnection.open(bus.address)
    heard: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
    await client.subscribe(MatchRule(interface=IFACE), lambda _message, values: heard.put_nowait(values))
    command = ["dbus-send", "--session", "--type=signal", PATH, f"{IFACE}.Changed", "string:x"]
    assert (await run(*command, DBUS_SESSION_BUS_ADDRESS=bus.address)).returncode == 0
    assert await heard.get() == ("x",)
    nobody = await asyncio.to_thread(dbus_send, bus.address, NAME, PATH, f"{IFACE}.Add")
    assert nobody.stderr.startswith("Error org.freedesktop.DBus.Error.ServiceUnknown: ")
    await client.close()
    bus.close()


async def test_it_is_for_its_user_alone_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "b"
    bus = EmbeddedBus.start(f"unix:path={path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    client = await BusConnection.open(bus.address)
    bus.close()
    bus.close()
    assert await client.closed() == "the other end closed the connection"
    await client.close()
    assert list(path.parent.iterdir()) == []
    shared = EmbeddedBus.start(f"unix:path={path}", uids=frozenset({65534}))
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    shared.close()


async def test_strangers_are_told(tmp_path: Path) -> None:
    bus = MemoryBus()
    with pytest.raises(BusUnavailableError, match="user 65533 may not use this bus"):
        await bus.open(Credentials(65533, 1))


async def test_the_first_taker_wins(tmp_path: Path) -> None:
    address = f"unix:path={tmp_path}/b"
    first = EmbeddedBus.start(address)
    with pytest.raises(PlaceTakenError, match="somebody hosts a bus at"):
        EmbeddedBus.start(address)
    client = await BusConnection.open(first.address)
    await client.close()
    first.close()
    second = EmbeddedBus.start(address)
    with pytest.raises(BusUnavailableError, match="not the one that its address names"):
        await BusConnection.open(first.address)
    second.close()


async def test_only_a_socket_that_nobody_answers_at_is_replaced(tmp_path: Path) -> None:
    address = f"unix:path={tmp_path}/bus"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(f"{tmp_path}/bus")
    EmbeddedBus.start(address).close()
    with dbus_daemon(tmp_path):
        with pytest.raises(PlaceTakenError, match="somebody answers at"):
            EmbeddedBus.start(address)
        client = await BusConnection.open(address)
        await client.close()
    (tmp_path / "bus").unlink(missing_ok=True)
    (tmp_path / "bus").write_text("a file of somebody")
    with pytest.raises(BusUnavailableError, match=r"no bus can be hosted at .+: address already in use"):
        EmbeddedBus.start(address)
    assert [each.name for each in tmp_path.iterdir()] == ["bus"]


async def test_without_descriptors_it_looks_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bus = EmbeddedBus.start(f"unix:path={tmp_path}/b")
    loop, limits = asyncio.get_running_loop(), resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        free = os.dup(client.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            client.connect(f"{tmp_path}/b")
            while "cannot accept: Too many open files" not in caplog.text:
                await asyncio.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await loop.sock_sendall(client, b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        assert (await loop.sock_recv(client, 100)).startswith(b"OK ")
    bus.close()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("unix:path=relative", "absolute path"),
        (f"unix:path=/{'x' * 120}", "at most 107 octets"),
        ("unix:path=/proc/none/bus", "no such file or directory"),
        ("unix:abstract=x", "absolute path"),
    ],
)
async def test_places_that_are_none(address: str, sentence: str) -> None:
    with pytest.raises(BusUnavailableError, match=sentence):
        EmbeddedBus.start(address)


async def test_somebody_takes_over_when_the_host_goes(tmp_path: Path) -> None:
    address = f"embedded:path={tmp_path}/b"
    members = [Presence(address, f"{NAME}{at}") for at in range(3)]
    for member in members:
        member.export(PATH, interface())
        await member.start()
    assert [member.is_hosting for member in members] == [True, False, False]
    client = await BusConnection.open(address)
    assert await client.call(f"{NAME}2", PATH, IFACE, "Add", "ii", 1, 2) == (3,)
    await client.close()
    left = await members[1].wait_joined(), await members[2].wait_joined()
    await members[0].stop()
    await asyncio.gather(*(each.closed() for each in left))
    for member in members[1:]:
        assert (await member.wait_joined()) not in left
    assert sum(member.is_hosting for member in members[1:]) == 1
    client = await BusConnection.open(address)
    for at in (1, 2):
        assert await client.call(f"{NAME}{at}", PATH, IFACE, "Add", "ii", 1, 2) == (3,)
    with pytest.raises(BusError, match=f"nobody on this bus has the name {NAME}0"):
        await client.call(f"{NAME}0", PATH, IFACE, "Add", "ii", 1, 2)
    await client.close()
    for member in members[1:]:
        await member.stop()
    assert list(tmp_path.iterdir()) == []


async def test_a_member_that_cannot_have_its_name_hosts_nothing(tmp_path: Path) -> None:
    first, second = (Presence(f"embedded:path={tmp_path}/b", NAME) for _ in range(2))
    await first.start()
    with pytest.raises(BusError, match="is taken on this bus by"):
        await second.start()
    assert first.is_hosting
    await first.stop()
    nowhere = Presence("embedded:path=/proc/none/b", NAME)
    with pytest.raises(BusUnavailableError, match="no bus can be hosted"):
        await nowhere.start()


async def test_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    presence = Presence("embedded", NAME)
    await presence.start()
    client = await BusConnection.open("embedded")
    assert await client.uid_of(NAME) == os.getuid()
    assert (tmp_path / "tumpline" / "bus").is_socket()
    await client.close()
    await presence.stop()
    (tmp_path / "tumpline").rmdir()


# ---- the verb ----------------------------------------------------------------------------------------------------


@pytest.fixture
def verb(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tumpline", "bus", "--address", f"unix:path={tmp_path}/b", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


async def test_the_verb_hosts_a_bus_until_it_is_stopped(verb: subprocess.Popen[str], tmp_path: Path) -> None:
    assert verb.stdout is not None
    address = (await asyncio.to_thread(verb.stdout.readline)).strip()
    assert re.fullmatch(rf"unix:path={tmp_path}/b,guid=[0-9a-f]{{32}}", address)
    presence = Presence(f"embedded:path={tmp_path}/b", NAME)
    presence.export(PATH, interface())
    await presence.start()
    assert hosts(presence) is False
    told = await run(
        "dbus-send", f"--bus={address}", f"--dest={NAME}", "--print-reply", PATH, f"{IFACE}.Add", "int32:1", "int32:1"
    )
    assert told.returncode == 0, told.stderr
    second = await run(sys.executable, "-m", "tumpline", "bus", "--address", f"unix:path={tmp_path}/b")
    assert second.returncode == 4
    assert f"somebody hosts a bus at {tmp_path}/b already" in second.stderr
    connection = await presence.wait_joined()
    verb.kill()  # nothing is tidied up: its lock goes with it, its socket stays
    await connection.closed()
    await presence.wait_joined()
    assert hosts(presence) is True
    await presence.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_verb_leaves_nothing(verb: subprocess.Popen[str], tmp_path: Path, number: signal.Signals) -> None:
    assert verb.stdout is not None
    assert await asyncio.to_thread(verb.stdout.readline)
    verb.send_signal(number)
    assert await asyncio.to_thread(verb.wait, 20) == 0
    assert list(tmp_path.iterdir()) == []
