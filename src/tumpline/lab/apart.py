"""Nodes with three agents in place of one, over a D-Bus of the node's own: files, and what is started in which order.

The bus is where programs look for the system's (`/run/dbus/system_bus_socket`; each node has its own /run/dbus), so that
`dbus-send --system` in a node talks to that node's agents.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tumpline.lab.model import AgentSection

BUS: Final = "unix:path=/run/dbus/system_bus_socket"
ENVIRONMENT: Final = {"DBUS_SYSTEM_BUS_ADDRESS": BUS, "DBUS_SESSION_BUS_ADDRESS": BUS}
_FILE: Final = "node.yaml"

Program = tuple[str, list[str]]  # its name, its command line


def write_yaml(name: str, agent: AgentSection, place: Path, keys: Path) -> None:
    """What the three agents of a node are told."""
    (place / _FILE).write_text(yaml.safe_dump(_with_keys(name, agent, keys), sort_keys=False))


def is_apart(place: Path) -> bool:
    """Whether the node whose directory this is has three agents."""
    return (place / _FILE).exists()


def before_agent(place: Path) -> list[list[Program]]:
    """What the bundle agent of a node needs: who is in one list can start together, after those before."""
    layers = [("tcpcl-agent", _agent("tcpcl", place)), ("udpcl-agent", _agent("udpcl", place))]
    return [[("bus", [sys.executable, "-m", "tumpline", "bus", "--address", BUS])], layers]


def bundle_agent(place: Path) -> list[str]:
    """Its command line; it is controlled as any other agent, too."""
    return [*_agent("bp", place), "--state-dir", str(place / "state")]


def _agent(role: str, place: Path) -> list[str]:
    return [sys.executable, "-m", "tumpline.ui.agents", role, "--config-file", str(place / _FILE)]


def _with_keys(name: str, agent: AgentSection, keys: Path) -> dict[str, Any]:
    tables: dict[str, Any] = {section: dict(table) for section, table in agent.apart.items()}
    if agent.tls:
        tables["tcpcl"] |= _files("tls", name, keys)
    return tables


def _files(prefix: str, name: str, keys: Path) -> Mapping[str, str]:
    files = {"ca": "ca.pem", "cert": f"{name}.pem", "key": f"{name}.key"}
    return {f"{prefix}_{use}_file": str(keys / file) for use, file in files.items()}
