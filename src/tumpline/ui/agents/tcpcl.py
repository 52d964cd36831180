"""`tcpcl-agent`: TCPCLv4 without a bundle agent, steered over D-Bus."""

from __future__ import annotations

from collections.abc import Sequence

from tumpline.errors import TumplineError
from tumpline.node.config.older.agents import tcpcl_settings
from tumpline.node.events import log_to
from tumpline.ui.agents.arguments import parse
from tumpline.ui.agents.command import ready, run, said, tell
from tumpline.ui.agents.settings import log_section, read, tcpcl_section
from tumpline.ui.dbus.tcpcl import serve_tcpcl

NAME = "tcpcl-agent"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    asked = parse("tcpcl", argv)
    try:
        older = read(asked)
        section = tcpcl_section(older, asked)
        settings = tcpcl_settings(section)
    except TumplineError as error:
        return said(NAME, error)
    tell(NAME, older.remarks)
    with log_to(log_section(section)):
        return run(NAME, serve_tcpcl(settings, lambda _: ready(NAME)))
