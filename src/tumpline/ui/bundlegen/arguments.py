"""The command line: the older agent's options, and those that it lacked."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

from tumpline.machines.udpcl.segmentation import DATAGRAM_OCTETS_LEAST
from tumpline.ui.bundlegen.supply import KINDS
from tumpline.wire.udpcl import DATAGRAM_OCTETS_MOST

DEFAULT_PORT: Final = 4556  # where dissectors look for TCPCL (RFC 9174 §8.1) and UDPCL
_UDPCL_MTU: Final = 1400  # octets of a datagram's payload
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
LEVELS: Final = ("critical", "error", "warning", "info", "debug")
_CONVERGENCE_LAYERS: Final = {"tcpcl": "TCPCLv4 (RFC 9174)", "udpcl": "UDPCL, version 2"}


class Asked(NamedTuple):
    """What one run is to do."""

    cl: str  # "tcpcl" or "udpcl"
    kind: str
    gencount: int
    seed: int
    secure: bool
    segment_mru: int | None
    mtu: int
    to_file: str  # "" without
    private_extensions: bool
    port: int
    via: str  # "" is straight to the passive end
    patience_s: float
    json: bool
    log_level: str


def parse(argv: Sequence[str] | None, cl: str) -> Asked:
    """Raises: SystemExit (2 for a mistake, 0 after --help)."""
    parser = _parser(cl)
    given = parser.parse_args(argv)
    if given.count is not None and given.gencount is not None and given.count != given.gencount:
        parser.error(f"the count is given twice, as {given.count} and as --gencount {given.gencount}")
    count = given.count or given.gencount or 1
    seed = secrets.randbits(32) if given.seed is None else given.seed
    return Asked(
        cl=cl,
        kind=given.gentype,
        gencount=count,
        seed=seed,
        secure=given.use_tls,
        segment_mru=getattr(given, "segment_mru", None),
        mtu=getattr(given, "mtu_default", _UDPCL_MTU),
        to_file=given.to_file,
        private_extensions="private_extensions" in given.enable_test,
        port=given.port,
        via=given.via,
        patience_s=given.timeout,
        json=given.json,
        log_level=given.log_level,
    )


def _parser(cl: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{cl}-bundlegen",
        description=f"Send generated bundles over {_CONVERGENCE_LAYERS[cl]} from one end on this machine to another, and "
        "compare each that comes, octet for octet, with what was sent.",
        epilog="Exit codes: 0 all came equal, 1 some did not, 2 usage, 3 no session, 130 interrupted. "
        "SSLKEYLOGFILE is honoured.",
    )
    parser.add_argument(
        "gentype",
        choices=KINDS,
        help="fullvalid: every rule of RFC 9171 is kept; randcbor: a CBOR "
        "item that is no bundle; randbytes: up to 10,000 octets; stdin: what is read, again and again",
    )
    parser.add_argument("count", nargs="?", type=count_from, metavar="gencount", help="how many (default 1)")
    parser.add_argument("--gencount", type=count_from, metavar="N", help="the same")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="the same one gives the same bundles (default: by chance)"
    )
    _add_link(parser, cl)
    parser.add_argument(
        "--to-file", default="", metavar="PREFIX", help="also write each to PREFIX000000.cbor and so on"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="what has not come so many seconds after the last one is lost (default 5)",
    )
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.add_argument(
        "--log-level",
        type=str.lower,
        choices=LEVELS,
        default="warning",
        metavar="LEVEL",
        help=f"of what is told on standard error: {', '.join(LEVELS)}",
    )
    return parser


def _add_link(parser: argparse.ArgumentParser, cl: str) -> None:
    secured = "TLS" if cl == "tcpcl" else "DTLS"
    parser.add_argument(
        "--use-tls",
        type=_truth,
        default=False,
        metavar="BOOL",
        help=f"{secured}, with certificates made for this run (default false)",
    )
    if cl == "tcpcl":
        parser.add_argument("--segment-mru", type=count_from, metavar="N", help="largest segment to take, in octets")
    else:
        parser.add_argument(
            "--mtu-default",
            type=_datagram_octets,
            default=_UDPCL_MTU,
            metavar="N",
            help=f"longest datagram to send, in octets (default {_UDPCL_MTU})",
        )
    parser.add_argument(
        "--enable-test",
        action="append",
        default=[],
        choices=("private_extensions",),
        help="with extensions that nobody knows: they must be passed over, critical ones refused",
    )
    parser.add_argument(
        "--port",
        type=port_from,
        default=DEFAULT_PORT,
        metavar="N",
        help=f"where the passive end listens; 0: any free port (default {DEFAULT_PORT})",
    )
    parser.add_argument(
        "--via",
        default="",
        metavar="HOST:PORT",
        help="reach the passive end through this relay, which has to lead to it",
    )


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false: write one of {', '.join(_TRUE + _FALSE)}")


def _datagram_octets(text: str) -> int:
    if text.isdecimal() and DATAGRAM_OCTETS_LEAST <= int(text) <= DATAGRAM_OCTETS_MOST:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} is no length of a datagram: write {DATAGRAM_OCTETS_LEAST} to {DATAGRAM_OCTETS_MOST}"
    )


def count_from(text: str) -> int:
    """A number of things. Raises: ArgumentTypeError."""
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 upwards")


def port_from(text: str) -> int:
    """A port, or 0. Raises: ArgumentTypeError."""
    if text.isdecimal() and int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: write a number from 0 to 65535")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0 < seconds < float("inf"):
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no time: write seconds, such as 5 or 0.5")
