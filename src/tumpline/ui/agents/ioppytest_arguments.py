"""What `ioppytest-agent connect` is asked: the options of both generations of the older packet agent, and a few of ours."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

URL: Final = "amqp://guest:guest@localhost/"
EXCHANGE: Final = "amq.topic"
NO_FILE: Final = Path()  # --dump without a name
# Agents of these names have addresses of old, and therefore need nobody to give them one.
KNOWN_NAMES: Final = frozenset(f"agent_{number}" for number in range(1, 7))
# What 0.1 took for granted under --force-bootstrap.
PREFIX, HOST = "bbbb", "1"
SERIAL_PORT, SERIAL_SPEED = "FINTEROP_CONNECTOR_SERIAL_PORT", "FINTEROP_CONNECTOR_BAUDRATE"

_EPILOG: Final = f"""\
An interface opens at once if you give it an address, if --name is one of agent_1 to agent_6 (bbbb::1 and 10.2.0.1 to
bbbb::6 and 10.2.0.6), or with --force-bootstrap; otherwise when a coordinator sends tun.start. To put an implementation on
another interface behind this agent, add --re-route-packets-if, -prefix and -host.

Environment: AMQP_URL, AMQP_EXCHANGE; with --serial {SERIAL_PORT}
and {SERIAL_SPEED}.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 130 interrupted."""


class Asked(NamedTuple):
    """One command line. Texts are as they were written."""

    name: str | None = None
    url: str = URL
    exchange: str = EXCHANGE
    dump: Path | None = None
    force_bootstrap: bool | None = None  # None: as it follows from the rest
    ipv6_prefix: str | None = None
    ipv6_host: str | None = None
    ipv4_address: str | None = None
    re_route_packets_if: str | None = None
    re_route_packets_prefix: str | None = None
    re_route_packets_host: str | None = None
    serial: bool = False
    key: Path | None = None
    format: str = "auto"
    ca: Path | None = None

    @property
    def opens_at_once(self) -> bool:
        """Whether nobody has to say tun.start."""
        if self.force_bootstrap is not None:
            return self.force_bootstrap
        return self.serial or self.has_address or self.name in KNOWN_NAMES

    @property
    def has_address(self) -> bool:
        return any((self.ipv6_prefix, self.ipv6_host, self.ipv4_address))

    @property
    def host(self) -> tuple[str | None, str | None]:
        """Prefix and host of its IPv6 address. Of a name that brings none, what 0.1 took for granted."""
        if self.has_address or self.name in KNOWN_NAMES or not self.opens_at_once or self.serial:
            return self.ipv6_prefix, self.ipv6_host or (HOST if self.ipv6_prefix else None)
        return PREFIX, HOST


def parse(argv: Sequence[str] | None, program: str = "ioppytest-agent") -> Asked:
    """`argv` None: the process's. Raises: SystemExit (2 for a mistake, 0 after --help)."""
    given = vars(_parser(program).parse_args(argv))
    return Asked(**{field: given[field] for field in Asked._fields if given[field] is not None})


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="An agent of the packet overlay, by the older agent's commands."
    )
    actions = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    connect = actions.add_parser(
        "connect",
        help="join a session, until Ctrl-C",
        description="Join a session: this machine and the other agents there see each other as neighbours, until Ctrl-C.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_session(connect)
    _add_interface(connect)
    _add_behind(connect)
    _add_ours(connect)
    return parser


def _add_session(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("session")
    group.add_argument(
        "--url",
        default=os.environ.get("AMQP_URL", URL),
        help="broker and session: amqp://USER:PASSWORD@HOST/SESSION, or amqps:// (TLS) (default: AMQP_URL, or guest on "
        "this machine)",
    )
    group.add_argument(
        "--exchange",
        default=os.environ.get("AMQP_EXCHANGE", EXCHANGE),
        help=f"topic exchange of the session (default: AMQP_EXCHANGE, or {EXCHANGE})",
    )
    group.add_argument(
        "--name",
        help="who you are in the session, as a rule the role of what is tested: coap_client, agent_1. One word, unique "
        "there (default: a new one, which is told)",
    )
    group.add_argument(
        "--dump",
        nargs="?",
        type=Path,
        const=NO_FILE,
        metavar="FILE",
        help="write every packet into this pcapng file, for Wireshark (default: NAME.pcapng in this directory)",
    )


def _add_interface(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("interface")
    group.add_argument(
        "--force-bootstrap",
        action=argparse.BooleanOptionalAction,
        help="open the interface at once, wait for nobody; --no-force-bootstrap: wait for tun.start in any case",
    )
    group.add_argument("--ipv6-prefix", metavar="PREFIX", help=f"first half of its IPv6 address (default: {PREFIX})")
    group.add_argument("--ipv6-host", metavar="HOST", help=f"second half of it (default: by its name, or {HOST})")
    group.add_argument("--ipv4-address", metavar="ADDRESS", help="its IPv4 address, in 10.2.0.0/24 as a rule")
    group.add_argument(
        "--serial",
        action="store_true",
        help=f"carry the frames of an IEEE 802.15.4 probe instead; {SERIAL_PORT} says where it is, {SERIAL_SPEED} how fast",
    )


def _add_behind(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is tested lies behind another interface of this machine")
    group.add_argument("--re-route-packets-if", metavar="IF", help="which: eth1")
    group.add_argument("--re-route-packets-prefix", metavar="PREFIX", help="its network there: cccc")
    group.add_argument("--re-route-packets-host", metavar="HOST", help="its address there: 2")


def _add_ours(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the older agent did not have")
    group.add_argument("--key", type=Path, metavar="FILE", help="the session's key: the broker reads no packet then")
    group.add_argument(
        "--format",
        choices=("auto", "binary", "v1", "v0"),
        default="auto",
        help="how packets are written; auto: as each of the others can read them",
    )
    group.add_argument("--ca", type=Path, metavar="FILE", help="who signs the broker's certificate (PEM)")
