"""What one agent of the older agent's three is told by its section."""

from __future__ import annotations

from tumpline.node.cla.settings import TcpclAgentSettings
from tumpline.node.config.older.links import tcpcl4_config
from tumpline.node.config.older.sections import AgentSection, TcpclSection

SESSION_BUS = "session"
_LEVELS = {"critical": "error"}  # of those that we do not have


def tcpcl_settings(section: TcpclSection) -> TcpclAgentSettings:
    """Raises: ConfigError."""
    return TcpclAgentSettings(
        link=tcpcl4_config(section),
        node_id=section.node_id,
        stop_on_close=section.stop_on_close,
        bus_address=bus_address(section),
        bus_service=section.bus_service or "",
    )


def bus_address(section: AgentSection) -> str:
    """`session`, `system`, or any D-Bus address."""
    return section.bus_addr or SESSION_BUS


def log_level(text: str) -> str:
    """As `[log]` has it."""
    return _LEVELS.get(text.lower(), text.lower())
