"""A peer as a child process: started, asked over its own HTTP interface, stopped by its number."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

HANG_S = 30.0
POLL_S = 0.05
STOP_S = 10.0
_TAIL_OCTETS = 4000
T = TypeVar("T")


class PeerProcess(Protocol):
    """What the exchanges ask of every peer."""

    node_id: str
    endpoint: str  # its application's EID, where `fetch` looks

    def send(self, destination: str, payload: bytes) -> None:
        """Send an ADU from `endpoint`."""

    def fetch(self) -> bytes | None:
        """The next ADU that came to `endpoint`, if one is there."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """Look again and again until there is something. Raises: AssertionError."""
    end = time.monotonic() + HANG_S
    while (found := look()) is None:
        assert time.monotonic() < end, f"{what}: not within {HANG_S:.0f} s"
        time.sleep(POLL_S)
    return found


class Process:
    """One child process, its directory and its log."""

    def __init__(self, command: list[str], directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log_path = directory / "peer.log"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        """All that it said."""
        return self.log_path.read_text(errors="replace")

    def check(self) -> None:
        """Raise AssertionError with the end of its log if it is gone."""
        assert self._process.poll() is None, f"the peer ended by itself:\n{self.log[-_TAIL_OCTETS:]}"

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it. Idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def request(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    """One HTTP request on loopback. Raises: OSError, AssertionError (not 200)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, f"{method} {path}: {answer.status} {content[:500]!r}"
        return content
    finally:
        connection.close()
