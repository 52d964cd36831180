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

BUS: Final = "unix:path=/run/dbus/system_bus_socket"
ENVIRONMENT: Final = {"DBUS_SYSTEM_BUS_ADDRESS": BUS, "DBUS_SESSION_BUS_ADDRESS": BUS}
_FILE: Final = "node.yaml"
_KEY_LOG: Final = "key-log"  # where its TLS secrets go

Program = tuple[str, list[str]]  # its name, its command line


def write_yaml(tables: Mapping[str, Any], tls: Mapping[str, str], place: Path) -> None:
    """What the three agents of a node are told. `tls`: as a tcpcl4 link has it."""
    told: dict[str, Any] = {section: dict(table) for section, table in tables.items()}
    for section, prefix, enable in (("tcpcl", "tls", "tls_enable"), ("udpcl", "dtls", "dtls_enable_tx")):
        if told[section][enable]:
            told[section] |= {f"{prefix}_{use}_file": tls[use] for use in ("ca", "cert", "key")}
    (place / _FILE).write_text(yaml.safe_dump(told, sort_keys=False))
    (place / _KEY_LOG).write_text(tls.get("key_log", ""))


def is_apart(place: Path) -> bool:
    """Whether the node whose directory this is has three agents."""
    return (place / _FILE).exists()


def before_agent(place: Path) -> list[list[Program]]:
    """What the bundle agent of a node needs: who is in one list can start together, after those before."""
    layers = [("tcpcl-agent", _agent("tcpcl", place)), ("udpcl-agent", _agent("udpcl", place))]
    return [[("bus", [sys.executable, "-m", "tumpline", "bus", "--address", BUS, "--print-address"])], layers]


def bundle_agent(place: Path) -> list[str]:
    """Its command line; it is controlled as any other agent, too."""
    return [*_agent("bp", place), "--state-dir", str(place / "state")]


def _agent(role: str, place: Path) -> list[str]:
    key_log = (place / _KEY_LOG).read_text()
    environment = ["env", f"SSLKEYLOGFILE={key_log}"] if key_log and role != "bp" else []
    return [*environment, sys.executable, "-m", "tumpline.ui.agents", role, "--config-file", str(place / _FILE)]
