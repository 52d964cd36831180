"""`tumpline broker`: an AMQP broker for newcomers."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from pathlib import Path
from typing import Final

from tumpline.drivers.dial import Address, parse_address
from tumpline.errors import ConfigError
from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output

MIB: Final = 1 << 20
_GUEST: Final = {"guest": "guest"}


async def broker(
    *,
    listen: str = "127.0.0.1:5672",
    users: Path | None = None,
    memory_mib: int = 256,
    common: Common = DEFAULT,
) -> int:
    """Host an AMQP 0-9-1 broker for the packet overlay until it is stopped (Ctrl-C, SIGTERM).

    To try things out, and for a few members: queues lie in memory and are gone with it, there is no TLS, no cluster and no
    management. It is no replacement for RabbitMQ. Every session (virtual host) that somebody names is there.

    Parameters
    ----------
    listen
        Where, as host:port or [v6]:port; port 0 for any that is free.
    users
        A file with lines `name:password`: who may log in. Without it, guest with the password guest, from this machine only.
    memory_mib
        What all queues together may hold; beyond it publishers wait.
    """
    from tumpline.drivers.amqp_broker import DEFAULT_PORT, BrokerServer
    from tumpline.machines.amqp_broker import BrokerConfig
    from tumpline.ui.cli.detach import told_ready

    where = parse_address(listen, DEFAULT_PORT)
    config = BrokerConfig(_users(users, where), memory_octets=_memory(memory_mib))
    server = BrokerServer(config)
    stopped = _stopped_by_signals()
    await server.start(where)
    try:
        url = f"amqp://{where._replace(port=server.port)}/"
        told_ready(f"the broker is at {url}")
        Output(common).event({"event": "ready", "url": url}, f"the broker is at {url} (Ctrl-C ends it)")
        await stopped.wait()
    finally:
        await server.stop()
    return 0


def _users(path: Path | None, where: Address) -> dict[str, str]:
    """Raises: ConfigError."""
    if path is not None:
        return _read_users(path)
    if not _is_loopback(where.host):
        raise ConfigError(f"--listen {where}: anybody there could log in as guest; name who may with --users FILE")
    return _GUEST


def _read_users(path: Path) -> dict[str, str]:
    """Raises: ConfigError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--users {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        if not name or not colon or not password:
            raise ConfigError(f"{path}:{number}: no user; write name:password")
        found[name] = password
    if not found:
        raise ConfigError(f"{path}: nobody is in it; write lines name:password")
    return found


def _memory(mib: int) -> int:
    """Raises: ConfigError."""
    if mib < 1:
        raise ConfigError(f"--memory-mib {mib}: at least 1")
    return mib * MIB


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _stopped_by_signals() -> asyncio.Event:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped
