"""What the commands are asked: the older agent's options, and the actions at the start that it had until 2025."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tumpline.node.config.older.sections import LEVELS, PORT

ROLES: Final = {"tcpcl": "TCPCLv4 (RFC 9174)", "udpcl": "UDPCL, version 2", "bp": "bundle"}
# The older agent's pings had a payload of this size in its own examples; any number may be written.
PING_OCTETS: Final = 64
_PING_OCTETS_MOST: Final = 1 << 30


class Asked(NamedTuple):
    """One command line."""

    log_level: str | None
    config_file: Path | None
    bus_service: str | None
    bus_addr: str | None
    action: str | None  # "listen", "connect", "ping"
    address: str = ""
    port: int = PORT
    destination: str = ""
    datalen: int = PING_OCTETS
    state_dir: Path | None = None


def parse(role: str, argv: Sequence[str] | None) -> Asked:
    """`argv` None: the process's. Raises: SystemExit (2 for a mistake, 0 after --help)."""
    given = vars(_parser(role).parse_args(argv))
    return Asked(**{name: value for name, value in given.items() if value is not None or name in Asked._fields[:5]})


def _parser(role: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{role}-agent",
        description=f"The {ROLES[role]} agent, steered over D-Bus.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage or configuration, 4 bus not reachable, 130 interrupted.",
    )
    parser.add_argument(
        "--log-level", type=str.lower, choices=LEVELS, metavar="LEVEL", help=f"{', '.join(LEVELS)} (default: warning)"
    )
    parser.add_argument("--config-file", type=Path, metavar="FILE", help="YAML, with a section for each agent")
    parser.add_argument("--bus-service", metavar="NAME", help="the name to own on the bus, before the file's")
    parser.add_argument(
        "--bus-addr", metavar="ADDRESS", help="session, system, or any D-Bus address, before the file's"
    )
    if role == "bp":
        parser.add_argument("--state-dir", type=Path, metavar="DIR", help="what it keeps (default: by its node ID)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", help="what to do at the start")
    if role == "bp":
        _add_ping(actions.add_parser("ping", help="send one bundle that asks for all status reports"))
    else:
        _add_cla_actions(role, actions)
    return parser


def _add_ping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("destination", help="endpoint ID")
    parser.add_argument("datalen", nargs="?", type=_octets, help=f"octets of its payload (default {PING_OCTETS})")


def _add_cla_actions(role: str, actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listen = actions.add_parser("listen", help="listen there")
    listen.add_argument("--address", default="", help="of this machine (default: every one)")
    listen.add_argument("--port", type=_port, default=PORT, help=f"default {PORT}")
    if role == "tcpcl":
        connect = actions.add_parser("connect", help="dial there")
        connect.add_argument("address", help="name or IP address of the peer")
        connect.add_argument("--port", type=_port, default=PORT, help=f"default {PORT}")


def _port(text: str) -> int:
    return _number(text, 65_535, "a port")


def _octets(text: str) -> int:
    return _number(text, _PING_OCTETS_MOST, "a number of octets")


def _number(text: str, most: int, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 12 or int(text) > most:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what.removeprefix('a ')}: write 0 to {most}")
    return int(text)
