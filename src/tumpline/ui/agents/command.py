"""What is common to the three commands: the log, what is said when one cannot start, exit codes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterable
from typing import Any

from tumpline.errors import ConfigError, TumplineError
from tumpline.ui.cli.detach import told_ready

EXIT_INTERRUPTED = 130


def run(name: str, work: Coroutine[Any, Any, int | None]) -> int:
    """The agent's whole life. Returns: its exit code; what went wrong is said on standard error."""
    try:
        return asyncio.run(work) or 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except TumplineError as error:
        return said(name, error)


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
