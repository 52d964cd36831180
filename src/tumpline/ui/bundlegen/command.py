"""`tcpcl-bundlegen` and `udpcl-bundlegen`: from the command line to the exit code."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from tumpline.errors import TumplineError
from tumpline.ui.bundlegen.arguments import Asked, parse
from tumpline.ui.bundlegen.exchange import Exchange
from tumpline.ui.bundlegen.links import PAIRS, make_security
from tumpline.ui.bundlegen.show import Bar, report
from tumpline.ui.bundlegen.supply import kept, supply
from tumpline.ui.bundlegen.trials import TRIALS

EXIT_DIFFERENT: Final = 1
EXIT_INTERRUPTED: Final = 130
_LOG_FORMAT: Final = "%(asctime)s PID:%(process)d TID:%(thread)d <%(levelname)s> %(name)s: %(message)s"


def tcpcl() -> NoReturn:
    """The script `tcpcl-bundlegen`."""
    sys.exit(main(None, "tcpcl"))


def udpcl() -> NoReturn:
    """The script `udpcl-bundlegen`."""
    sys.exit(main(None, "udpcl"))


def main(argv: Sequence[str] | None, cl: str) -> int:
    """One run over "tcpcl" or "udpcl"; `argv` None is the process's. Returns: its exit code."""
    asked = parse(argv, cl)
    logging.basicConfig(format=_LOG_FORMAT, level=asked.log_level.upper())
    try:
        return asyncio.run(_run(asked))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except TumplineError as error:
        print(f"{cl}-bundlegen: {error}", file=sys.stderr)
        if asked.json:
            print(msgspec.json.encode({"error": str(error), "exit_code": error.exit_code}).decode())
        return error.exit_code


async def _run(asked: Asked) -> int:
    with tempfile.TemporaryDirectory(prefix="bundlegen-") as directory:
        security = make_security(asked, Path(directory))
        if asked.private_extensions:
            await TRIALS[asked.cl](asked, security)
        trial = "private" if asked.private_extensions else ""
        exchange = Exchange(PAIRS[asked.cl](asked, security, trial), _supplied(asked), asked.patience_s)
        with Bar(asked) as bar:
            await exchange.run(bar.show)
    report(asked, exchange)
    return 0 if exchange.is_good else EXIT_DIFFERENT


def _supplied(asked: Asked) -> Iterator[bytes]:
    # A transfer over UDPCL that carries nothing is none.
    supplied = supply(asked.kind, asked.gencount, asked.seed, 1 if asked.cl == "udpcl" else 0)
    return kept(supplied, asked.kind, asked.to_file) if asked.to_file else supplied
