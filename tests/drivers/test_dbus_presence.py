"""A service that comes back by itself when its bus does."""

from __future__ import annotations

import asyncio
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
