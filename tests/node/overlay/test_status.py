"""What programs of the overlay show of themselves, and what killed ones leave behind."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tumpline.errors import NotReachableError
from tumpline.node.overlay.status import StatusSocket, ask, ask_all, name_of, shown, socket_path


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def snapshot() -> dict[str, Any]:
    return {"name": "alice", "large": "x" * 1_000_000}


async def test_whoever_asks_is_told_everything() -> None:
    status = StatusSocket(socket_path("tunnel", "alice"), snapshot)
    await status.start()
    assert [name_of(path) for path in shown("tunnel")] == ["alice"]
    answers = await asyncio.gather(*(ask(status.path) for _ in range(3)))
    assert answers == [snapshot()] * 3
    assert await ask_all("tunnel", "alice") == [snapshot()]
    assert await ask_all("tunnel", "bob") == []
    assert await ask_all("router") == []
    await status.stop()
    await status.stop()
    assert shown("tunnel") == []


async def test_who_was_killed_is_passed_over_and_cleared_away() -> None:
    dead = socket_path("tunnel", "dead")
    dead.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    with pytest.raises(NotReachableError, match="it has ended, or hangs"):
        await ask(dead)
    assert await ask_all("tunnel") == []
    status = StatusSocket(socket_path("tunnel", "alice"), snapshot)
    await status.start()
    assert shown("tunnel") == [status.path]
    await status.stop()


async def test_who_asks_and_goes_does_no_harm() -> None:
    status = StatusSocket(socket_path("tunnel", "alice"), snapshot)
    await status.start()
    for _ in range(10):
        _, writer = await asyncio.open_unix_connection(str(status.path))
        writer.transport.abort()
    assert await ask(status.path) == snapshot()
    await status.stop()
