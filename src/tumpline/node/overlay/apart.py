"""A command that is in the overlay and nowhere else: an agent, and a network of the command's own at its port."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tumpline.drivers.apart import CommandApart
from tumpline.drivers.ports.tun import TunConfig
from tumpline.errors import ConfigError
from tumpline.node.overlay.agent import OverlayAgent, TunnelSettings, serve


async def serve_apart(
    settings: TunnelSettings,
    command: Sequence[str],
    *,
    tell: Callable[[Any], None],
    ready: Callable[[OverlayAgent], None],
) -> int:
    """Join, run the command, leave when it ends. Returns: its exit code.

    Ctrl-C is the command's affair once it runs; SIGTERM ends both. Raises: TumplineError with the remedy."""
    config = _tun_of(settings)
    apart = await CommandApart.prepare(config, command)
    # What is beside its addresses was made where the command is.
    there = msgspec.structs.replace(config, fd=apart.fd, name="", routes=[])
    try:
        await serve(settings._replace(port_config=there, opens_at_once=True), tell=tell, ready=_begin(apart, ready))
    finally:
        await apart.end()
    return await apart.wait()


def _begin(apart: CommandApart, ready: Callable[[OverlayAgent], None]) -> Callable[[OverlayAgent], None]:
    async def until_it_ends(agent: OverlayAgent) -> None:
        await apart.wait()
        agent.stop()

    def begin(agent: OverlayAgent) -> None:
        ready(agent)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
        apart.go()
        agent.spawn(until_it_ends(agent), "command")

    return begin


def _tun_of(settings: TunnelSettings) -> TunConfig:
    config = settings.port_config
    if not isinstance(config, TunConfig) or config.device or config.behind is not None:
        raise ConfigError("run: the command has a network interface made for it; leave out --device and --re-route-...")
    return config
