"""Real agents in a line: ground, maybe relay, rover. The first has a source, the last a sink that verifies."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

from tumpline.bench.framework.agents import AgentProcess, Agents
from tumpline.bench.framework.certificates import Certificates
from tumpline.errors import NoAnswerError, TumplineError
from tumpline.node.client import SyncClient, connect_sync

HOP = ("ground", "rover")
RELAY = ("ground", "relay", "rover")
_HANG_S = 240.0
_POLL_S = 0.005

_CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"

[store]
kind = "{store}"

[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"
{link}
[services.sink]
verify = true
"""
_ROUTE = """
[[routes]]
to = "{to}"
via = "dtn://{via}/"
"""


class Setup(NamedTuple):
    """What kind of chain."""

    names: tuple[str, ...] = HOP
    store: str = "memory"
    tls: bool = False


class Chain:
    """Agents that run, each joined with the next."""

    def __init__(self, agents: Sequence[AgentProcess], certificates: Certificates | None) -> None:
        self.agents = agents
        self.certificates = certificates
        self._first = connect_sync(agents[0].socket, timeout_s=_HANG_S)
        self._last = connect_sync(agents[-1].socket, timeout_s=_HANG_S)

    def __enter__(self) -> Self:
        self._first.__enter__()
        self._last.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._first.__exit__(*error)
        self._last.__exit__(*error)

    def seconds(self, count: int, octets: int) -> float:
        """From asking the source until the last of `count` distinct bundles has come to the sink, verified."""
        self._last.get("/v1/sink", {"reset": True})
        begin = time.monotonic()
        asked = {"to": f"dtn://{self.agents[-1].name}/sink", "count": count, "size": octets}
        for _ in self._first.stream("/v1/source", asked):
            pass
        return self._await_sink(count, begin + _HANG_S) - begin

    def _await_sink(self, count: int, deadline: float) -> float:
        while True:
            report = self._last.get("/v1/sink")
            now = time.monotonic()
            if report["bundles"] >= count:
                break
            if now > deadline:
                raise NoAnswerError(f"only {report['bundles']} of {count} bundles came within {_HANG_S:.0f} s")
            time.sleep(_POLL_S)
        if report["verified"] != count or report["damaged"] or report["duplicates"] or report["missing"]:
            raise TumplineError(f"the sink did not get what was sent: {report}")
        return now - float(report["last_s"])

    def ping_median_ms(self, count: int) -> float:
        """The median round trip from the first to the last agent, one bundle at a time."""
        asked = {"to": f"dtn://{self.agents[-1].name}/echo", "count": count, "size": 100, "interval_s": 0.005}
        summary: dict[str, Any] = {}
        for event in self._first.stream("/v1/ping", asked):
            summary = event
        if summary.get("received") != count:
            raise TumplineError(f"not every ping was answered: {summary}")
        return float(summary["median_ms"])

    def rss_max_mib(self) -> float:
        """The most memory that any of the agents held."""
        return max(agent.rss_max_mib() for agent in self.agents)


@contextmanager
def running(setup: Setup) -> Iterator[Chain]:
    """The chain, for as long as the block lasts."""
    with TemporaryDirectory(prefix="tumpline-bench-") as name, Agents(Path(name)) as agents:
        certificates = Certificates.make(Path(name) / "certs", setup.names) if setup.tls else None
        started: list[AgentProcess] = []
        for index in reversed(range(len(setup.names))):
            started.insert(0, _start(agents, setup, index, certificates))
        with Chain(started, certificates) as chain:
            for agent in started[:-1]:
                _await_session(agent)
            yield chain


def _start(agents: Agents, setup: Setup, index: int, certificates: Certificates | None) -> AgentProcess:
    name = setup.names[index]
    link, routes = "", ""
    if index + 1 < len(setup.names):
        neighbour = setup.names[index + 1]
        link = f'connect = ["{address_of(agents.running[neighbour])}"]\n'
        if index + 2 < len(setup.names):
            routes = _ROUTE.format(to=f"dtn://{setup.names[-1]}/**", via=neighbour)
    if certificates is not None:
        link += certificates.config_line(name)
    return agents.start(name, _CONFIG.format(name=name, store=setup.store, link=link) + routes)


def address_of(agent: AgentProcess) -> str:
    """Where its first link listens."""
    with connect_sync(agent.socket, timeout_s=_HANG_S) as client:
        return str(client.get("/v1/links")["links"][0]["listening"][0])


def _await_session(agent: AgentProcess) -> None:
    deadline = time.monotonic() + _HANG_S
    with connect_sync(agent.socket, timeout_s=_HANG_S) as client:
        while not _has_session(client):
            if time.monotonic() > deadline:
                raise NoAnswerError(f"{agent.name} got no session with the next node:\n{agent.log_tail()}")
            time.sleep(_POLL_S)


def _has_session(client: SyncClient) -> bool:
    return any(peer["state"] == "up" for peer in client.get("/v1/peers")["peers"])
