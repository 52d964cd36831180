"""From an address to a connected socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tumpline.drivers.dbus.errors import BusUnavailableError
from tumpline.drivers.directories import runtime_dir
from tumpline.errors import MalformedError
from tumpline.wire.dbus import ServerAddress, encode_address, parse_addresses

BACKLOG_S: Final = 0.05  # between two looks at a server that has too much to accept
EMBEDDED: Final = "embedded"
SYSTEM_SOCKET: Final = "/run/dbus/system_bus_socket"  # D-Bus specification, Well-known Message Bus Instances


def resolve(address: str) -> list[ServerAddress]:
    """What `session`, `system`, `embedded` or an address of D-Bus means here. Raises: BusUnavailableError."""
    named: dict[str, Callable[[], str]] = {"session": _session, "system": _system, EMBEDDED: lambda: f"{EMBEDDED}:"}
    try:
        return parse_addresses(named[address]() if address in named else address)
    except MalformedError as error:
        raise BusUnavailableError(f"{error}; or say session, system or embedded") from None


def _system() -> str:
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or _of_path(SYSTEM_SOCKET)


def _session() -> str:
    told, runtime = os.environ.get("DBUS_SESSION_BUS_ADDRESS"), os.environ.get("XDG_RUNTIME_DIR")
    if not told and not runtime:
        raise BusUnavailableError(
            "there is no session bus here: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set; "
            "start within `dbus-run-session`, or host one: `tumpline bus`"
        )
    return told or _of_path(f"{runtime}/bus")


def _of_path(path: str) -> str:
    return encode_address(ServerAddress("unix", {"path": path}))


def unix_name(address: ServerAddress) -> str:
    """What `connect` and `bind` of a UNIX socket want. Raises: BusUnavailableError: it is no such address."""
    keys = address.keys
    if address.transport == EMBEDDED and not keys:
        return str(_embedded())
    if address.transport in ("unix", EMBEDDED) and "path" in keys:
        return keys["path"]
    if address.transport == "unix" and "abstract" in keys:
        return "\0" + keys["abstract"]
    if address.transport == "unix" and keys.get("runtime") == "yes" and (runtime := os.environ.get("XDG_RUNTIME_DIR")):
        return f"{runtime}/bus"
    raise BusUnavailableError(f"{encode_address(address)} is no address of a UNIX socket; write unix:path=/path/of/it")


def is_embedded(address: str) -> bool:
    """Whether whoever comes first is to host the bus at this address: `embedded`, or `embedded:path=...`."""
    return address.partition(":")[0] == EMBEDDED


def _embedded() -> Path:
    """Raises: BusUnavailableError: somebody else made the directory, to whom nothing may be told."""
    directory = runtime_dir()
    if directory.exists() and directory.stat().st_uid not in (os.getuid(), 0):
        raise BusUnavailableError(f"{directory} belongs to another user; set XDG_RUNTIME_DIR to a directory of yours")
    return directory / "bus"


async def dial(address: str, timeout_s: float) -> tuple[socket.socket, ServerAddress]:
    """The first of the ways that leads to a socket. Raises: BusUnavailableError, which says why none does."""
    reasons = []
    for way in resolve(address):
        try:
            return await _connect(unix_name(way), timeout_s), way
        except BusUnavailableError as error:
            reasons.append(str(error))
        except TimeoutError:
            reasons.append(f"{encode_address(way)} does not answer within {timeout_s:g} s")
        except OSError as error:
            reasons.append(f"{encode_address(way)}: {os.strerror(error.errno or 0).lower()}")
    raise BusUnavailableError(f"no bus can be reached: {'; '.join(reasons)}")


async def _connect(name: str, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(timeout_s):
            # A full backlog says EAGAIN for a UNIX socket, and nothing tells when there is room: look again.
            while True:
                try:
                    sock.connect(name)
                    return sock
                except BlockingIOError:
                    await asyncio.sleep(BACKLOG_S)
    except BaseException:
        sock.close()
        raise
