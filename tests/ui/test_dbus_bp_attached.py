"""Four older commands on one bus: two bp-agents that attach two tcpcl-agents by a call, and validate a node ID through them."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tumpline.bench.framework.agents import clean_environment
from tumpline.drivers.dbus import BusConnection
from tumpline.testing.buses import dbus_daemon, dbus_send
from tumpline.testing.interop.process import free_port
from tumpline.ui.dbus.bp import ADMIN, ADMIN_PATH, AGENT, AGENT_PATH
from tumpline.ui.dbus.steering import NODE
from tumpline.wire.dbus import MatchRule

HANG_S = 30.0
POLL_S = 0.02
ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE = "dDtaviYTPUWFS3NK37YWfQ", "tPUZNY4ONIk6LxErRFEjVw", "p3yRYFU4KxwQaHQjJ2RdiQ"
THUMBPRINT = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"

TCPCL = """\
tcpcl:
  bus_addr: '{bus}'
  bus_service: dtns.{name}.tcpcl
  node_id: dtn://{name}/
  tls_enable: false
  {sessions}:
    - address: 127.0.0.1
      port: {port}
"""
BP = """\
bp:
  bus_addr: '{bus}'
  bus_service: dtns.{name}.bp
  node_id: dtn://{name}/
"""


@contextmanager
def running(role: str, directory: Path, config: str) -> Iterator[None]:
    """One of the older commands, from when it is up."""
    file = directory / f"{role}.yaml"
    file.write_text(config)
    command = [sys.executable, "-m", "tumpline.ui.agents", role, "--config-file", str(file)]
    environment = clean_environment(directory) | {"XDG_STATE_HOME": str(directory)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().endswith(" is up\n")
            yield
        finally:
            process.terminate()


@pytest.fixture
def address(own_directories: Path, tmp_path: Path) -> Iterator[str]:
    """A bus with the four agents on it, who know nothing of each other yet."""
    port = free_port()
    with ExitStack() as stack:
        bus = stack.enter_context(dbus_daemon(tmp_path))
        for name, sessions in (("server", "init_listen"), ("client", "init_connect")):
            directory = tmp_path / name
            directory.mkdir()
            facts = {"bus": bus, "name": name, "sessions": sessions, "port": port}
            stack.enter_context(running("tcpcl", directory, TCPCL.format(**facts)))
            stack.enter_context(running("bp", directory, BP.format(**facts)))
        yield bus


def call(address: str, to: str, path: str, method: str, *strings: str) -> str:
    done = dbus_send(address, to, path, method, *(f"string:{each}" for each in strings))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def until_up(bus: BusConnection, name: str) -> None:
    async with asyncio.timeout(HANG_S):
        while "up" not in [peer[3] for peer in (await bus.call(name, AGENT_PATH, NODE, "get_peers"))[0]]:
            await asyncio.sleep(POLL_S)


async def test_attached_agents_carry_the_exchange(address: str) -> None:
    bus = await BusConnection.open(address)
    told: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()
    rule = MatchRule(interface=ADMIN, member="got_acme_response")
    await bus.subscribe(rule, lambda _message, values: told.put_nowait(values))
    for name in ("server", "client"):
        where = f"dtns.{name}.bp", AGENT_PATH, f"{AGENT}.cl_attach"
        await asyncio.to_thread(call, address, *where, "tcpcl", f"dtns.{name}.tcpcl")
    for name in ("server", "client"):
        await until_up(bus, f"dtns.{name}.bp")
    expect = f"{ADMIN}.start_expect_acme_request"
    await asyncio.to_thread(call, address, "dtns.client.bp", ADMIN_PATH, expect, ID_CHAL, TOKEN_CHAL, THUMBPRINT)
    asked = ("dtn://client/", ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT)
    await asyncio.to_thread(call, address, "dtns.server.bp", ADMIN_PATH, f"{ADMIN}.send_acme_request", *asked)
    async with asyncio.timeout(HANG_S):
        assert await told.get() == ("dtn://client/", ID_CHAL, True)
    await bus.close()
