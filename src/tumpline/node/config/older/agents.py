"""What one agent of the older agent's three is told by its section."""

from __future__ import annotations

from tumpline.drivers.dial import Address
from tumpline.node.cla.settings import TcpclAgentSettings
from tumpline.node.cla.udpcl_settings import Poll, UdpclAgentSettings
from tumpline.node.config.older.links import tcpcl4_config, udpcl_config
from tumpline.node.config.older.sections import PORT, AgentSection, Polling, TcpclSection, UdpclSection

SESSION_BUS = "session"
_LEVELS = {"critical": "error"}  # of those that we do not have


def tcpcl_settings(section: TcpclSection) -> TcpclAgentSettings:
    """Raises: ConfigError."""
    return TcpclAgentSettings(
        link=tcpcl4_config(section),
        node_id=section.node_id,
        stop_on_close=section.stop_on_close,
        hold_received=section.hold_received,
        bus_address=bus_address(section),
        bus_service=section.bus_service or "",
    )


def udpcl_settings(section: UdpclSection) -> UdpclAgentSettings:
    """Raises: ConfigError."""
    return UdpclAgentSettings(
        link=udpcl_config(section),
        node_id=section.node_id,
        polls=tuple(map(_poll, section.polling)),
        default_to=section.default_tx_address or "",
        default_port=section.default_tx_port or PORT,
        bus_address=bus_address(section),
        bus_service=section.bus_service or "",
    )


def _poll(polling: Polling) -> Poll:
    has_local = polling.local_address is not None or polling.local_port is not None
    local = Address(polling.local_address or "", polling.local_port or 0) if has_local else None
    return Poll(Address(polling.address, polling.port), polling.interval_ms / 1000, local)


def bus_address(section: AgentSection) -> str:
    """`session`, `system`, or any D-Bus address."""
    return section.bus_addr or SESSION_BUS


def log_level(text: str) -> str:
    """As `[log]` has it."""
    return _LEVELS.get(text.lower(), text.lower())
