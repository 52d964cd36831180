"""The way to a running agent: which control socket, and what is asked over it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tumpline.errors import ConfigError, NotReachableError
from tumpline.ui.cli.common import Common

__all__ = ["connected", "default_config_path", "find_socket"]


@asynccontextmanager
async def connected(common: Common) -> AsyncIterator[Any]:
    """The control client of the agent that --node names. Raises: NotReachableError."""
    from tumpline.node.client import connect

    async with connect(find_socket(common.node), timeout_s=common.timeout) as client:
        yield client


def runtime_dir() -> Path:
    """Where agents' control sockets are found."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base or f"/run/user/{os.getuid()}") / "tumpline"


def find_socket(node: str | None) -> Path:
    """The control socket of an agent: by path (socket or state directory) or by name; without either, of the only agent
    that runs. Raises: NotReachableError, ConfigError (several run)."""
    if node is None:
        return _only_socket()
    path = Path(node)
    if path.is_dir():
        return path / "control.sock"
    if "/" in node or path.is_socket():
        return path
    return runtime_dir() / f"{node}.sock"


def _only_socket() -> Path:
    found = sorted(path for path in runtime_dir().glob("*.sock") if path.is_socket() and _answers(path))
    if not found:
        raise NotReachableError("no agent runs here: start one with `tumpline up`, or name its socket with --node")
    if len(found) > 1:
        names = ", ".join(path.stem for path in found)
        raise ConfigError(f"several agents run: choose one with --node ({names})")
    return found[0]


def _answers(path: Path) -> bool:
    """Whether somebody listens: a killed agent leaves its socket behind."""
    import socket

    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def default_config_path(node: str | None) -> Path:
    """The configuration of the agent called `node`, or the only one there is. Raises: ConfigError."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tumpline"
    if node is not None:
        return Path(node) if "/" in node else base / f"{node}.toml"
    found = sorted(base.glob("*.toml"))
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"several configurations lie in {base}: choose one with --config FILE or --node NAME")
    raise ConfigError(f"no configuration in {base}: `tumpline config init` writes one, or name it with --config FILE")
