"""`tumpline bus`: a message bus for machines without dbus-daemon."""

from __future__ import annotations

import asyncio
import pwd
import signal

from tumpline.errors import ConfigError
from tumpline.ui.cli.common import DEFAULT, Common, Flag
from tumpline.ui.cli.output import Output


async def bus(
    *,
    address: str = "embedded",
    allow_user: tuple[str, ...] = (),
    print_address: Flag = False,
    common: Common = DEFAULT,
) -> int:
    """Host a D-Bus message bus until it is stopped (Ctrl-C, SIGTERM).

    Parameters
    ----------
    address
        Where: `unix:path=/path/of/the/socket`, or `embedded` for the one that agents with `bus embedded` share.
    allow_user
        A user (name or number) who may use it beside you and root; may be given several times.
    print_address
        Print the address on standard output.
    """
    from tumpline.drivers.dbus import EmbeddedBus
    from tumpline.ui.cli.detach import told_ready

    hosted = EmbeddedBus.start(address, uids=frozenset(map(_uid, allow_user)))
    try:
        stopped = _stopped_by_signals()
        told_ready(f"the bus is at {hosted.address}")
        _tell(Output(common), hosted.address, print_address)
        await stopped.wait()
    finally:
        hosted.close()
    return 0


def _tell(output: Output, address: str, print_address: bool) -> None:
    if print_address or output.json:
        output.event({"event": "ready", "address": address}, address)
    else:
        output.note(f"the bus is up; others find it by DBUS_SESSION_BUS_ADDRESS={address}")


def _stopped_by_signals() -> asyncio.Event:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped


def _uid(user: str) -> int:
    """Raises: ConfigError: there is no such user."""
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ConfigError(f"--allow-user {user}: there is no such user; write a name or a number") from None
