"""`tumpline broker` as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tumpline.drivers.amqp import AmqpConnection, AmqpError, AmqpUrl
from tumpline.ui.cli import app

COMMAND = [sys.executable, "-m", "tumpline", "broker", "--json", "--listen"]


@asynccontextmanager
async def broker(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, AmqpUrl]]:
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    assert ready["event"] == "ready"
    try:
        yield process, AmqpUrl.parse(ready["url"])
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_it_tells_its_clients_that_it_ends() -> None:
    async with broker("127.0.0.1:0") as (process, url):
        client = await AmqpConnection.open(url, name="test")
        await (await client.channel()).declare_queue("q", exclusive=True)
        process.send_signal(signal.SIGINT)
        assert await client.closed() == "CONNECTION_FORCED - the broker ends"
        await client.close()
        await process.wait()


async def test_users_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("# who\n\nanna:s:ecret\n")
    async with broker("localhost:0", "--users", f"{tmp_path / 'users'}") as (_, url):
        client = await AmqpConnection.open(url._replace(user="anna", password="s:ecret"), name="test")
        await client.close()
        with pytest.raises(AmqpError, match="look at user and password"):
            await AmqpConnection.open(url, name="test")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "0.0.0.0:0"], "anybody there could log in as guest; name who may with --users FILE"),
        (["--users", "/nowhere/users"], "cannot be read: No such file or directory"),
        (["--users", "{users}"], "users:1: no user; write name:password"),
        (["--users", "/dev/null"], "nobody is in it; write lines name:password"),
        (["--memory-mib", "0"], "--memory-mib 0: at least 1"),
        (["--listen", "127.0.0.1:99999"], "the port must be 0 to 65535"),
    ],
)
def test_what_cannot_be(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "users").write_text("anna\n")
    filled = [each.replace("{users}", f"{tmp_path / 'users'}") for each in arguments]
    assert app.run(["broker", *filled]) != 0
    assert said in capsys.readouterr().err
