"""What a program of the overlay shows of itself: one JSON object to whoever connects to its socket.

Sockets lie in a directory of their own below the runtime directory, so that nobody takes them for a node's control.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tumpline.errors import NotReachableError
from tumpline.node.control import sockets

ANSWER_OCTETS_MOST: Final = 16 << 20  # of a router with thousands of members
ANSWER_S: Final = 5.0
PROBE_S: Final = 0.2


def directory(kind: str) -> Path:
    """Where programs of a kind ("tunnel", "router") show themselves."""
    return sockets.runtime_dir() / kind


def socket_path(kind: str, name: str) -> Path:
    """The socket of this process. One name can be in several sessions at once, a process number cannot."""
    return directory(kind) / f"{name}.{os.getpid()}.sock"


def shown(kind: str, name: str | None = None) -> list[Path]:
    """The sockets of those that run (or were killed), by name."""
    return sorted(path for path in directory(kind).glob("*.sock") if name is None or name == name_of(path))


def name_of(path: Path) -> str:
    """Whose socket it is."""
    return path.name.rsplit(".", 2)[0]


class StatusSocket:
    """Serves `snapshot()` until it is stopped."""

    def __init__(self, path: Path, snapshot: Callable[[], dict[str, Any]]) -> None:
        self.path = path
        self._snapshot = snapshot
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises: StateError with the remedy."""
        _clear(self.path.parent)
        listener = sockets.listen(self.path)
        self._server = await asyncio.start_unix_server(self._answer, sock=listener)

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(json.dumps(self._snapshot(), default=str).encode() + b"\n")
            await asyncio.wait_for(writer.drain(), ANSWER_S)
        except (OSError, TimeoutError):
            writer.transport.abort()  # whoever asked has gone, or does not read
        finally:
            writer.close()

    async def stop(self) -> None:
        """Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)


def _clear(directory: Path) -> None:
    """Of sockets that killed processes left behind."""
    for path in directory.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as probe, sockets.reachable(path) as short:
            probe.settimeout(PROBE_S)
            try:
                probe.connect(short)
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue  # it has gone meanwhile, or has much to do


async def ask(path: Path) -> dict[str, Any]:
    """What the program at `path` shows. Raises: NotReachableError."""
    try:
        with sockets.reachable(path) as short:
            reader, writer = await asyncio.open_unix_connection(short, limit=ANSWER_OCTETS_MOST)
        try:
            answer = await asyncio.wait_for(reader.readline(), ANSWER_S)
        finally:
            writer.close()
        value: dict[str, Any] = json.loads(answer)
    except (OSError, TimeoutError, ValueError) as error:
        raise NotReachableError(f"nobody answers at {path}: it has ended, or hangs") from error
    return value


async def ask_all(kind: str, name: str | None = None) -> list[dict[str, Any]]:
    """What those show that run; of those that were killed, the sockets are left to whoever takes their place."""
    found = await asyncio.gather(*map(ask, shown(kind, name)), return_exceptions=True)
    return [each for each in found if isinstance(each, dict)]
