"""The way to a running agent, and to the configuration of one that is to run."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tumpline.errors import ConfigError, NotReachableError
from tumpline.node.control.sockets import reachable, runtime_dir
from tumpline.ui.cli.common import Common

if TYPE_CHECKING:
    from tumpline.node.client import Client

__all__ = ["connected", "default_config_path", "find_agent"]


@asynccontextmanager
async def connected(common: Common) -> AsyncIterator[Client]:
    """The control client of the agent that --node names. Raises: NotReachableError, ConfigError (several run)."""
    from tumpline.node.client import connect

    async with connect(find_agent(common.node), timeout_s=common.timeout) as client:
        yield client


def find_agent(node: str | None) -> str:
    """Socket path, state directory, URL or name of an agent; without --node the only one that answers.
    Raises: NotReachableError, ConfigError."""
    if node is not None:
        return node
    # Sockets that nobody answers at are what a killed agent left behind.
    found = sorted(path for path in runtime_dir().glob("*.sock") if _answers(path))
    if not found:
        raise NotReachableError("no agent runs here: start one with `tumpline up`, or name its socket with --node")
    if len(found) > 1:
        names = ", ".join(path.stem for path in found)
        raise ConfigError(f"several agents run here ({names}): choose one with --node NAME")
    return str(found[0])


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, reachable(path) as short:
        try:
            probe.connect(short)
        except OSError:
            return False
    return True


def default_config_path(node: str | None) -> Path:
    """The configuration of the agent called `node`, or the only one there is. Raises: ConfigError."""
    base = config_dir()
    if node is not None:
        return Path(node) if "/" in node else base / f"{node}.toml"
    found = sorted(base.glob("*.toml"))
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"several configurations lie in {base}: choose one with --config FILE or --node NAME")
    raise ConfigError(f"no configuration in {base}: `tumpline config init` writes one, or name it with --config FILE")


def config_dir() -> Path:
    """Where configurations are looked for."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tumpline"
