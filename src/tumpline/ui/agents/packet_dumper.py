"""The older packet dumper: what agents publish in a session, into a capture."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tumpline.drivers.amqp import AmqpUrl
from tumpline.errors import TumplineError
from tumpline.node.overlay.session_dump import SessionDump
from tumpline.ui.agents.command import ready, run, said
from tumpline.ui.agents.ioppytest_arguments import EXCHANGE, URL

_PROGRAM: Final = "packet_dumper"
_FILE: Final = Path("packets.pcapng")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    given = _parser().parse_args(argv)
    try:
        url = AmqpUrl.parse(os.environ.get("AMQP_URL", URL))
    except TumplineError as error:
        return said(_PROGRAM, error)
    return run(_PROGRAM, _capture(url, given.file))


async def _capture(url: AmqpUrl, path: Path) -> int:
    """Until the test is over, or somebody ends it."""
    dump = SessionDump(url, os.environ.get("AMQP_EXCHANGE", EXCHANGE), path)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, dump.stop)
    ready(_PROGRAM)
    await dump.run()
    print(f"{dump.counts.packets} packets in {path}", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Write what older agents publish in a session into a pcapng file, until Ctrl-C or "
        "testingtool.terminate.",
        epilog="Environment: AMQP_URL, AMQP_EXCHANGE. Sealed packets (the binary format) are not captured: use --dump "
        "of the agents.",
    )
    parser.add_argument("--file", type=Path, default=_FILE, help="default: %(default)s")
    return parser
