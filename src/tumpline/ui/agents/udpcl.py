"""`udpcl-agent`: UDPCL without a bundle agent, steered over D-Bus."""

from __future__ import annotations

from collections.abc import Sequence

from tumpline.node.config.older.agents import udpcl_settings
from tumpline.ui.agents.command import run_cla
from tumpline.ui.agents.settings import udpcl_section
from tumpline.ui.dbus.udpcl import serve_udpcl


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_cla("udpcl", argv, udpcl_section, udpcl_settings, serve_udpcl)
