"""Where things lie unless a configuration says otherwise (XDG base directories)."""

from __future__ import annotations

import os
from pathlib import Path

from tumpline.node.control.sockets import runtime_dir

APPLICATION = "tumpline"
__all__ = ["SOCKET", "config_dir", "config_path", "control_socket", "runtime_dir", "state_dir"]

SOCKET = "control.sock"  # within a state directory


def config_dir() -> Path:
    """Where configurations are looked for: `$XDG_CONFIG_HOME/tumpline`."""
    return _base("XDG_CONFIG_HOME", Path.home() / ".config")


def config_path(name: str) -> Path:
    """The configuration of the agent called `name`."""
    return config_dir() / f"{name}.toml"


def state_dir(name: str) -> Path:
    """What the agent called `name` keeps, unless configured: `$XDG_STATE_HOME/tumpline/NAME`."""
    return _base("XDG_STATE_HOME", Path.home() / ".local" / "state") / name


def control_socket(name: str) -> Path:
    """The control socket of the agent called `name`."""
    return runtime_dir() / f"{name}.sock"


def _base(variable: str, default: Path) -> Path:
    # XDG Base Directory Specification: "All paths must be absolute. If an implementation encounters a relative path ...
    # it should consider the path invalid and ignore it."
    value = os.environ.get(variable, "")
    return (Path(value) if value.startswith("/") else default) / APPLICATION
