"""tunnel: the packet overlay over a real RabbitMQ, between two sites on veths with real packets of 1500 octets."""

from __future__ import annotations

import fcntl
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tumpline.bench.framework.api import BenchSpec, Effort, Figure, latency, throughput
from tumpline.bench.framework.tunnel_load import Load, Sent, best_rate
from tumpline.bench.framework.tunnel_net import SITES, TunnelNet
from tumpline.bench.framework.tunnel_peers import start_openvpn, start_tinc

SMALL: Final = 100  # octets of UDP payload
LEGACY: Final = 1400 - 28  # a packet of 1400 octets
FIRST_PER_S: Final = {SMALL: 40_000.0, LEGACY: 8_000.0}
_IS_OPENVPN: Final = "openvpn (AES-256-GCM, UDP) over the same veths"
_IS_VETH: Final = "the veths themselves"


class Session(NamedTuple):
    """Two members, and how they talk."""

    first: str
    last: str
    net: str
    options: tuple[str, ...]

    @property
    def address(self) -> str:
        """Of the member at site b."""
        return f"{self.net}.2"


DIRECT = Session("direct_a", "direct_b", "10.2.0", ("--via", "direct"))
ROUTED = Session("routed_a", "routed_b", "10.5.0", ("--via", "router"))
OLDER = Session("older_a", "older_b", "10.6.0", ("--format", "v1"))


class Stage:
    """The broker, and whoever has joined."""

    def __init__(self, net: TunnelNet) -> None:
        self.net = net
        self.load = Load(net)

    def join(self, session: Session) -> None:
        """Both members, until they reach each other."""
        for number, (site, name) in enumerate(zip(SITES, (session.first, session.last), strict=True), 1):
            command = ["tunnel", "connect", "--name", name, "--address", f"{session.net}.{number}/24", *session.options]
            self._start(site, command, name)
        self.load.await_up(session.address, lambda: self._said(session.last))

    def start_router(self) -> None:
        """In the middle, beside the broker."""
        self._start(None, ["router"], "router")

    def _start(self, node: str | None, command: list[str], name: str) -> None:
        url = self.net.url(node or next(iter(SITES)))
        argv = [sys.executable, "-m", "tumpline", *command]
        self.net.start(node, argv, self._log(name), AMQP_URL=url, XDG_RUNTIME_DIR=str(self.net.directory))

    def _log(self, name: str) -> Path:
        return self.net.directory / f"{name}.log"

    def _said(self, name: str) -> str:
        return self._log(name).read_text()[-1000:]


@contextmanager
def staged() -> Iterator[Stage]:
    """The net and the broker, for as long as the block lasts."""
    with TemporaryDirectory(prefix="tumpline-bench-") as name:
        directory = Path(name)
        with TunnelNet(directory) as net, _broker(net):
            yield Stage(net)


@contextmanager
def _broker(net: TunnelNet) -> Iterator[None]:
    """RabbitMQ runs as long as somebody holds the file of its users."""
    directory = net.directory / "rabbitmq"
    (directory / "broker").mkdir(parents=True)
    (directory / "broker" / "ports").write_text("5672 5671 5673 5674")  # nobody else is in its network
    with open(directory / "users", "w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        program = [sys.executable, "-m", "tumpline.testing.rabbitmq", str(directory), "0.0.0.0"]
        net.start(None, program, net.directory / "rabbitmq.log")
        yield


class Times(NamedTuple):
    """How much is measured."""

    seconds: float  # of each stream, and of each trial at a rate
    pings: int
    runs: int
    steps_up: int  # of the search for a rate

    @classmethod
    def of(cls, effort: Effort) -> Times:
        """A rough figure is one of a second."""
        return cls(1.0, 100, 1, 1) if effort.quick else cls(4.0, 500, effort.runs, 1000)


def run(effort: Effort) -> Mapping[str, Figure]:
    """The figures of this bench."""
    times = Times.of(effort)
    with staged() as stage:
        others = {"openvpn": start_openvpn(stage.net), "tinc": start_tinc(stage.net), "veth": f"{SITES['b']}.2"}
        stage.join(DIRECT)
        for name, address in others.items():
            stage.load.await_up(address, partial("{} did not come up".format, name))
        direct = _direct(stage.load, {"ours": DIRECT.address, **others}, times)
        stage.start_router()
        stage.join(ROUTED)
        stage.join(OLDER)
        return direct | _routed(stage.load, others["openvpn"], times)


def _direct(load: Load, addresses: Mapping[str, str], times: Times) -> dict[str, Figure]:
    """Without a router, and the other tunnels beside."""
    tcp = medians(lambda address: load.tcp_gbit_s(address, times.seconds), addresses, times.runs)
    pps = medians(lambda address: _pps(load, address, SMALL, times), addresses, times.runs)
    ping = medians(lambda address: load.ping_median_ms(address, times.pings), addresses, times.runs)
    found = {}
    for name, key, limit, limit_is in (
        ("ours", "amqp", "openvpn", _IS_OPENVPN),
        ("openvpn", "openvpn", "veth", _IS_VETH),
        ("tinc", "tinc", "veth", _IS_VETH),
    ):
        found[f"{key}_tcp_gbit_s"] = throughput(tcp[name], "Gbit/s", tcp[limit], limit_is)
        found[f"{key}_pps"] = throughput(pps[name], "packets/s", pps[limit], f"{SMALL} octets of UDP; {limit_is}")
        found[f"{key}_ping_median_ms"] = latency(ping[name], "ms", ping[limit], limit_is)
    return found


def _routed(load: Load, openvpn: str, times: Times) -> dict[str, Figure]:
    """Through the packet router."""
    tcp = {"ours": ROUTED.address, "openvpn": openvpn}
    gbit_s = medians(lambda address: load.tcp_gbit_s(address, times.seconds), tcp, times.runs)
    older = {"ours": OLDER.address, "openvpn": openvpn}
    pps = medians(lambda address: _pps(load, address, LEGACY, times), older, times.runs)
    limit_is = f"packets of 1400 octets; {_IS_OPENVPN}"
    return {
        "amqp_legacy_pps": throughput(pps["ours"], "packets/s", pps["openvpn"], limit_is),
        "routed_tcp_gbit_s": throughput(gbit_s["ours"], "Gbit/s", gbit_s["openvpn"], _IS_OPENVPN),
    }


def _pps(load: Load, address: str, octets: int, times: Times) -> float:
    def trial(per_s: float) -> Sent:
        return load.datagrams(address, octets, per_s, times.seconds / 2)

    return best_rate(trial, FIRST_PER_S[octets], times.steps_up)


def medians(measure: Callable[[str], float], addresses: Mapping[str, str], runs: int) -> dict[str, float]:
    """Of each address, all of them in turns: a slow minute of the machine falls on all."""
    found: dict[str, list[float]] = {name: [] for name in addresses}
    for _ in range(runs):
        for name, address in addresses.items():
            found[name].append(measure(address))
    return {name: statistics.median(values) for name, values in found.items()}


_TUNNELS = ("amqp", "openvpn", "tinc")
_FIGURES = tuple(f"{name}_{what}" for name in _TUNNELS for what in ("tcp_gbit_s", "pps", "ping_median_ms"))
SPEC = BenchSpec(
    "tunnel",
    "the packet overlay over RabbitMQ, with and without a router, beside openvpn and tinc",
    (*_FIGURES, "amqp_legacy_pps", "routed_tcp_gbit_s"),
    run,
)
