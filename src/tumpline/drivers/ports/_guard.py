"""The process that undoes what outlives a device: routes elsewhere, addresses of a device that stays, keys of the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

from tumpline.drivers.ports._netlink import Interface, Network


class Guard:
    """Started with the first step; most ports never need it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def address(self, index: int, address: Interface) -> None:
        """It was added: at the end it is removed."""
        self._add("address", index, str(address))

    def route(self, index: int, to: Network, metric: int) -> None:
        """It was added: at the end it is removed."""
        self._add("route", index, str(to), metric)

    def key(self, path: Path, before: str) -> None:
        """It was written: at the end it says what it said before."""
        self._add("key", str(path), before)

    async def end(self) -> None:
        """Undo everything, and wait for it. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody killed it
            process.stdin.close()
        await asyncio.to_thread(process.wait)
        assert process.stdout is not None
        process.stdout.close()

    def _add(self, *step: object) -> None:
        if self._process is None:
            self._process = _start()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(step) + "\n")
        self._process.stdin.flush()


def _start() -> subprocess.Popen[str]:
    """In a session of its own: Ctrl-C is not for it."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tumpline.drivers.ports._undo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process
