"""`ioppytest-agent connect`: the older packet agent's command, carried out by the overlay's agent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tumpline.errors import ConfigError, TumplineError
from tumpline.node.overlay.agent import serve
from tumpline.node.overlay.settings import Wish, settings_of
from tumpline.ui.agents.command import run, said
from tumpline.ui.agents.ioppytest_arguments import NO_FILE, SERIAL_PORT, SERIAL_SPEED, Asked, parse
from tumpline.ui.cli.common import DEFAULT
from tumpline.ui.cli.output import Output
from tumpline.ui.cli.tunnel_telling import Teller

_PROGRAM = "ioppytest-agent"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    try:
        settings = settings_of(wish_of(parse(argv, _PROGRAM)))
    except TumplineError as error:
        return said(_PROGRAM, error)
    teller = Teller(Output(DEFAULT))
    return run(_PROGRAM, serve(settings, tell=teller.tell, ready=teller.ready))


def wish_of(asked: Asked) -> Wish:
    """As `tumpline tunnel connect` would have it. Raises: ConfigError."""
    name = asked.name or f"agent-{secrets.token_hex(4)}"
    prefix, host = asked.host
    return Wish(
        name=name,
        url=asked.url,
        exchange=asked.exchange,
        format=asked.format,
        key=asked.key,
        ca=asked.ca,
        ipv6_prefix=prefix,
        ipv6_host=host,
        ipv4_address=asked.ipv4_address,
        force_bootstrap=asked.opens_at_once,
        re_route_packets_if=asked.re_route_packets_if,
        re_route_packets_prefix=asked.re_route_packets_prefix,
        re_route_packets_host=asked.re_route_packets_host,
        dump=Path(f"{name}.pcapng") if asked.dump == NO_FILE else asked.dump,
        **(_probe() if asked.serial else {}),
    )


def _probe() -> dict[str, Any]:
    """Where it is, as the environment says. Raises: ConfigError."""
    port, speed = os.environ.get(SERIAL_PORT), os.environ.get(SERIAL_SPEED)
    if not port or not speed:
        missing = " and ".join(name for name, value in ((SERIAL_PORT, port), (SERIAL_SPEED, speed)) if not value)
        raise ConfigError(f"--serial: {missing} is not set; write {SERIAL_PORT}=/dev/ttyUSB0 {SERIAL_SPEED}=115200")
    if not speed.isascii() or not speed.isdecimal() or len(speed) > 8:
        raise ConfigError(f"--serial: {SERIAL_SPEED} is {speed!r}, no number; write {SERIAL_SPEED}=115200")
    return {"serial": True, "serial_port": port, "baudrate": int(speed)}
