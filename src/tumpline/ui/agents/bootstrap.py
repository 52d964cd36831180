"""The older coordinator's tool: ask an agent to open its interface, and wait until it says that it has."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Final

from tumpline.drivers.amqp import AmqpUrl
from tumpline.errors import ConfigError, NoAnswerError, TumplineError
from tumpline.machines.overlay.starting import ATTEMPTS, PAUSE_S
from tumpline.node.overlay.asking import ask_to_start
from tumpline.ui.agents.command import run, said
from tumpline.ui.agents.ioppytest_arguments import EXCHANGE, URL
from tumpline.wire.agent_json import Tun, addresses
from tumpline.wire.agent_keys import is_agent_name

_PROGRAM: Final = "bootstrap_agent"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    given = _parser().parse_args(argv)
    try:
        asked = _asked(given)
        url = AmqpUrl.parse(os.environ.get("AMQP_URL", URL))
    except TumplineError as error:
        return said(_PROGRAM, error)
    return run(_PROGRAM, _ask(url, asked))


async def _ask(url: AmqpUrl, asked: Tun) -> int:
    started = await ask_to_start(url, os.environ.get("AMQP_EXCHANGE", EXCHANGE), asked)
    if started is None:
        raise NoAnswerError(
            f"{asked.name} was asked {ATTEMPTS} times in {ATTEMPTS * PAUSE_S:.0f} s to open its interface, and said "
            "nothing: is it in this session, and is that its name?"
        )
    print(f"{asked.name} has {', '.join(str(each) for each in addresses(started))}", flush=True)
    return 0


def _asked(given: argparse.Namespace) -> Tun:
    """Raises: ConfigError."""
    if not is_agent_name(given.name):
        raise ConfigError(f"{given.name!r} is no name of an agent: one word without . * #")
    tun = Tun(
        name=given.name,
        ipv6_prefix=given.prefix,
        ipv6_host=given.host,
        ipv6_no_forwarding=given.no_forwarding,
        ipv4_address=given.ipv4_address,
    )
    try:
        addresses(tun)
    except TumplineError:
        raise ConfigError(f"{given.prefix}::{given.host} is no IPv6 address; write bbbb 3 for bbbb::3") from None
    return tun


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Ask an agent to open its interface, and wait until it says that it has.",
        epilog="Environment: AMQP_URL, AMQP_EXCHANGE. Exit codes: 0 it has, 2 usage, 3 it said nothing.",
    )
    parser.add_argument("name", help="of the agent")
    parser.add_argument("prefix", help="first half of its IPv6 address: bbbb")
    parser.add_argument("host", help="second half: 3")
    parser.add_argument("-nf", "--no_forwarding", action="store_true", help="it is to forward no packets")
    parser.add_argument("--ipv4-address", metavar="ADDRESS", help="its IPv4 address")
    return parser
