"""Buses for tests, each in a directory of its own and gone with the block."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def dbus_daemon(directory: Path) -> Iterator[str]:
    """The reference implementation, as a session bus that any user of this machine's tests could reach; its address."""
    path = directory / "bus"  # as long as a UNIX socket's path may be: 107 octets
    command = [
        "dbus-daemon",
        "--session",
        "--nofork",
        "--nopidfile",
        f"--address=unix:path={path}",
        "--print-address=1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline(), "dbus-daemon does not start"
            yield f"unix:path={path}"
        finally:
            daemon.terminate()


def dbus_send(
    address: str, destination: str, path: str, method: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """What `dbus-send` prints of a call (`--print-reply=literal`); an error's name and sentence stand on stderr."""
    where = [f"--bus={address}", f"--dest={destination}", path, method]
    command = ["dbus-send", "--print-reply=literal", "--reply-timeout=20000", *where, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
