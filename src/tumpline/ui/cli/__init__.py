"""The command line: `tumpline VERB`. Every verb is imported only when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code."""
    try:
        from tumpline.ui.cli.app import run
    except KeyboardInterrupt:  # before anything could be begun
        sys.exit(130)

    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


__all__ = ["main"]
