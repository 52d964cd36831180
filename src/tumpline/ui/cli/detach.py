"""A process that leaves its terminal once it is ready, and the word to systemd that it is."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tumpline.errors import TumplineError
from tumpline.ui.cli.output import Output

_READY = b"\0ready "  # no line of text begins with a NUL
_EXIT = b"\0exit "


class Detached:
    """Forks twice. The parent waits until the grandchild is ready, or shows why it is not.

    The grandchild's stderr is the pipe until it is ready, so that errors reach whoever typed the command."""

    def __init__(self) -> None:
        self._is_ready = False
        self._reader, self._writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._child = os.fork()
        self.is_parent = self._child != 0
        if not self.is_parent:
            os.setsid()
            if os.fork() != 0:  # a process that leads no session never gets a terminal back
                os._exit(0)
            self._to_background()

    def _to_background(self) -> None:
        os.close(self._reader)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(self._writer, 2)
        os.close(null)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_parent:
            os.close(self._reader)
        elif isinstance(error, TumplineError) and not self._is_ready:
            os.write(self._writer, _EXIT + f"{error.exit_code}\n".encode())

    def wait(self, output: Output) -> int:
        """Read what the agent tells until it is ready or has ended. Returns: the exit code."""
        os.close(self._writer)
        os.waitpid(self._child, 0)
        code = 1
        with os.fdopen(os.dup(self._reader), "rb") as told:
            for line in told:
                if line.startswith(_READY):
                    pid, _, text = line.removeprefix(_READY).decode().strip().partition(" ")
                    output.result({"event": "ready", "pid": int(pid), "text": text}, f"{text} (process {pid})")
                    return 0
                if line.startswith(_EXIT):
                    code = int(line.removeprefix(_EXIT))
                else:
                    output.error(line.decode(errors="replace").rstrip())
        return code

    def ready(self, line: str, log: Path) -> None:
        """Let the parent go; from here on what would be shown goes to the file `log`."""
        self._is_ready = True
        os.write(self._writer, _READY + f"{os.getpid()} {line}\n".encode())
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(file, 2)
        os.close(file)
        os.close(self._writer)


def told_ready(status: str) -> bool:
    """Tell systemd (Type=notify) that the agent is ready. Returns: whether anyone asked. See sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}".encode(), address)
    return True
