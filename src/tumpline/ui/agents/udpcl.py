"""`udpcl-agent`: UDPCL without a bundle agent, steered over D-Bus."""

from __future__ import annotations

from collections.abc import Sequence

from tumpline.errors import TumplineError
from tumpline.node.config.older.agents import udpcl_settings
from tumpline.node.events import log_to
from tumpline.ui.agents.arguments import parse
from tumpline.ui.agents.command import ready, run, said, tell
from tumpline.ui.agents.settings import log_section, read, udpcl_section
from tumpline.ui.dbus.udpcl import serve_udpcl

NAME = "udpcl-agent"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    asked = parse("udpcl", argv)
    try:
        older = read(asked)
        section = udpcl_section(older, asked)
        settings = udpcl_settings(section)
    except TumplineError as error:
        return said(NAME, error)
    tell(NAME, older.remarks)
    with log_to(log_section(section)):
        return run(NAME, serve_udpcl(settings, lambda _: ready(NAME)))
