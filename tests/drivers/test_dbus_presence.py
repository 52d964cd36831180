"""A service that comes back by itself when its bus does."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest

from tumpline.drivers.dbus import BusConnection, BusError, BusUnavailableError, Interface, Method, Presence
from tumpline.errors import LocalProtocolError
from tumpline.testing.buses import dbus_daemon

NAME, PATH, IFACE = "org.example.Agent", "/org/example/Agent", "org.example.Agent"
pytestmark = pytest.mark.timeout(60)


def interface() -> Interface:
    return Interface(IFACE, {"Name": Method(lambda call: call.path, "", "s")}, {"Changed": "s"})


async def ask(address: str, path: str = PATH) -> object:
    client = await BusConnection.open(address)
    try:
        return (await client.call(NAME, path, IFACE, "Name"))[0]
    finally:
        await client.close()


async def test_it_returns_with_all_it_exports(tmp_path: Path) -> None:
    left: asyncio.Queue[str] = asyncio.Queue()
    with dbus_daemon(tmp_path) as address:
        presence = Presence(address, NAME, left=left.put_nowait)
        presence.export(PATH, interface())
        await presence.start()
        presence.export(f"{PATH}/2", interface())
        assert [await ask(address), await ask(address, f"{PATH}/2")] == [PATH, f"{PATH}/2"]
    assert await left.get() == "the other end closed the connection"
    assert presence.connection is None
    presence.emit(PATH, IFACE, "Changed", "unheard")
    presence.unexport(f"{PATH}/2")
    with pytest.raises(LocalProtocolError, match="exports no signal"):
        presence.emit(f"{PATH}/2", IFACE, "Changed", "x")
    (tmp_path / "bus").unlink(missing_ok=True)
    with dbus_daemon(tmp_path) as address:
        await presence.wait_joined()
        assert await ask(address) == PATH
        with pytest.raises(BusError, match="no object"):
            await ask(address, f"{PATH}/2")
        await presence.stop()
        with pytest.raises(BusError) as caught:
            await ask(address)
        assert caught.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"


async def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BusUnavailableError):
        await Presence(f"unix:path={tmp_path}/none", NAME).start()
    with dbus_daemon(tmp_path) as address:
        first, second = Presence(address, NAME), Presence(address, NAME)
        await first.start()
        with pytest.raises(BusError, match="is taken on this bus by"):
            await second.start()
        await first.stop()
        await second.start()
        await second.stop()
        await second.stop()


async def test_what_is_exported_while_it_joins_is_there(tmp_path: Path) -> None:
    with dbus_daemon(tmp_path) as address:
        presence = Presence(address, NAME)
        start = asyncio.gather(presence.start())
        while not presence._reached():
            await asyncio.sleep(0)
        presence.export(PATH, interface())
        await start
        assert await ask(address) == PATH
        await presence.stop()


async def test_a_lock_without_a_bus_is_waited_for(tmp_path: Path) -> None:
    """Who has the lock may not listen yet, or listen no more."""
    lock = (tmp_path / "b.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    presence = Presence(f"embedded:path={tmp_path}/b", NAME)
    start = asyncio.gather(presence.start())
    done, _ = await asyncio.wait([start], timeout=0.1)
    assert not done
    lock.close()
    await start
    assert presence.is_hosting
    await presence.stop()


async def test_a_lock_that_never_leads_to_a_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tumpline.drivers.dbus.presence.TAKEN_S", 0.1)
    with (tmp_path / "b.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusUnavailableError, match="no such file"):
            await Presence(f"embedded:path={tmp_path}/b", NAME).start()
