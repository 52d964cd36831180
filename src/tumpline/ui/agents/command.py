"""What is common to the three commands: the log, what is said when one cannot start, exit codes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from tumpline.errors import ConfigError, TumplineError
from tumpline.node.config.older.read import OlderConfiguration
from tumpline.node.config.older.sections import AgentSection
from tumpline.node.events import log_to
from tumpline.ui.agents.arguments import Asked, parse
from tumpline.ui.agents.settings import log_section, read
from tumpline.ui.cli.detach import told_ready

EXIT_INTERRUPTED = 130
Section = TypeVar("Section", bound=AgentSection)
Settings = TypeVar("Settings")


def run(name: str, work: Coroutine[Any, Any, int | None]) -> int:
    """The agent's whole life. Returns: its exit code; what went wrong is said on standard error."""
    try:
        return asyncio.run(work) or 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except TumplineError as error:
        return said(name, error)


def run_cla(
    role: str,
    argv: Sequence[str] | None,
    section_of: Callable[[OlderConfiguration, Asked], Section],
    settings_of: Callable[[Section], Settings],
    serve: Callable[[Settings, Callable[[Any], None]], Coroutine[Any, Any, None]],
) -> int:
    """The command of a convergence-layer agent; its exit code."""
    name, asked = f"{role}-agent", parse(role, argv)
    try:
        older = read(asked)
        section = section_of(older, asked)
        settings = settings_of(section)
    except TumplineError as error:
        return said(name, error)
    tell(name, older.remarks)
    with log_to(log_section(section)):
        return run(name, serve(settings, lambda _: ready(name)))


def said(name: str, error: TumplineError) -> int:
    """Tell it. Returns: its exit code."""
    problems = error.problems if isinstance(error, ConfigError) else [str(error) or str(error.__doc__)]
    tell(name, problems)
    return error.exit_code


def tell(name: str, sentences: Iterable[str]) -> None:
    """A line each, on standard error."""
    for sentence in sentences:
        print(f"{name}: {sentence}", file=sys.stderr)


def ready(who: str) -> None:
    """Tell whoever started it: on standard output, and systemd."""
    line = f"{who} is up"
    told_ready(line)
    print(line, flush=True)
