"""From the file and the options to what one agent is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec

from tumpline.errors import ConfigError
from tumpline.node.config import Configuration
from tumpline.node.config.model import LogSection
from tumpline.node.config.older.agents import log_level
from tumpline.node.config.older.node import bp_agent_configuration
from tumpline.node.config.older.read import OlderConfiguration, load_older
from tumpline.node.config.older.sections import (
    AgentSection,
    Connect,
    Listen,
    TcpclSection,
    UdpclSection,
    UdpListen,
    check_host,
)
from tumpline.ui.agents.arguments import Asked

Agent = TypeVar("Agent", bound=AgentSection)


def read(asked: Asked) -> OlderConfiguration:
    """The file that was named, or one that says nothing. Raises: ConfigError."""
    if asked.config_file is None:
        return OlderConfiguration(Path("options"), None, None, None, [], {})
    return load_older(asked.config_file)


def with_options(section: Agent, asked: Asked) -> Agent:
    """What was said by option goes before the file."""
    said = {name: getattr(asked, name) for name in ("log_level", "bus_service", "bus_addr")}
    return msgspec.structs.replace(section, **{name: value for name, value in said.items() if value is not None})


def tcpcl_section(older: OlderConfiguration, asked: Asked) -> TcpclSection:
    """Of the TCPCL agent, with its action at the start. Raises: ConfigError."""
    section = with_options(older.tcpcl or TcpclSection(), asked)
    if asked.action == "listen":
        listen = Listen(address=_host(asked), port=asked.port)
        return msgspec.structs.replace(section, init_listen=[*section.init_listen, listen])
    if asked.action == "connect":
        connect = _made(lambda: Connect(address=_host(asked), port=asked.port))
        return msgspec.structs.replace(section, init_connect=[*section.init_connect, connect])
    return section


def udpcl_section(older: OlderConfiguration, asked: Asked) -> UdpclSection:
    """Of the UDPCL agent. Raises: ConfigError."""
    section = with_options(older.udpcl or UdpclSection(), asked)
    if asked.action == "listen":
        listen = UdpListen(address=_host(asked), port=asked.port)
        return msgspec.structs.replace(section, init_listen=[*section.init_listen, listen])
    return section


def bp_configuration(older: OlderConfiguration, asked: Asked) -> Configuration:
    """Of the bundle agent. Raises: ConfigError."""
    if older.bp is None:
        raise ConfigError(
            f"{older.path}: a bundle agent needs its node ID; write bp: with node_id below it, and name the "
            "file with --config-file"
        )
    configuration = bp_agent_configuration(older._replace(bp=with_options(older.bp, asked)))
    if asked.state_dir is None:
        return configuration
    node = msgspec.structs.replace(configuration.node, state_dir=asked.state_dir.absolute())
    return replace(configuration, node=node)


def log_section(section: AgentSection) -> LogSection:
    """As the older agents log: warnings, unless told otherwise."""
    return msgspec.convert({"level": log_level(section.log_level or "warning"), "format": "older"}, LogSection)


def _host(asked: Asked) -> str:
    check_host(asked.address)
    return asked.address


T = TypeVar("T")


def _made(make: Callable[[], T]) -> T:
    try:
        return make()
    except ValueError as error:
        raise ConfigError(str(error)) from None
