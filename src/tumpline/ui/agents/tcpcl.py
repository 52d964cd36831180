"""`tcpcl-agent`: TCPCLv4 without a bundle agent, steered over D-Bus."""

from __future__ import annotations

from collections.abc import Sequence

from tumpline.node.config.older.agents import tcpcl_settings
from tumpline.ui.agents.command import run_cla
from tumpline.ui.agents.settings import tcpcl_section
from tumpline.ui.dbus.tcpcl import serve_tcpcl


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_cla("tcpcl", argv, tcpcl_section, tcpcl_settings, serve_tcpcl)
