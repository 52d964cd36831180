"""The older packet router's command: the name of a configuration; the broker by AMQP_URL, the exchange by AMQP_EXCHANGE."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Final

from tumpline.errors import TumplineError
from tumpline.node.overlay.router import RouterWish, router_settings_of, serve_router
from tumpline.node.overlay.topologies import shipped_topologies
from tumpline.ui.agents.command import run, said
from tumpline.ui.agents.ioppytest_arguments import EXCHANGE, URL
from tumpline.ui.cli.common import DEFAULT
from tumpline.ui.cli.output import Output
from tumpline.ui.cli.router_telling import Teller

_PROGRAM: Final = "ioppytest.packet_router"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    asked = _parser().parse_args(argv)
    url, exchange = os.environ.get("AMQP_URL", URL), os.environ.get("AMQP_EXCHANGE", EXCHANGE)
    try:
        settings = router_settings_of(RouterWish(url=url, exchange=exchange, config=asked.configuration))
    except TumplineError as error:
        return said(_PROGRAM, error)
    teller = Teller(Output(DEFAULT))
    return run(_PROGRAM, serve_router(settings, tell=teller.tell, ready=teller.ready))


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(topology.configuration_id for topology in shipped_topologies())
    parser = argparse.ArgumentParser(
        _PROGRAM,
        description="Pass packets on between the agents of a test's configuration, until Ctrl-C or SIGTERM.",
        epilog="`tumpline router` does the same and more: agents that come and go, several routers, impairment.",
    )
    parser.add_argument("configuration", help=f"one of {names}; or FILE.yaml, FILE.yaml#NAME")
    return parser
