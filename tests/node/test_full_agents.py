"""Three agents in a triangle, each at its quota with bundles for the next: they drain by themselves, and take more."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tumpline.bench.framework.agents import AgentProcess, Agents
from tumpline.bench.framework.chain import address_of
from tumpline.errors import NoAnswerError, RefusedError
from tumpline.node.client import connect_sync

HANG_S = 60.0
POLL_S = 0.02
NAMES = ("ground", "relay", "rover")
COUNT, OCTETS = 300, 1000
MORE = 20
QUOTA_OCTETS = 100_000  # of some 330,000 that each sends

CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"

[store]
kind = "sqlite"
quota_bytes = {quota}

[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"

[services.sink]
verify = true
"""


def get(agent: AgentProcess, path: str) -> dict[str, Any]:
    with connect_sync(agent.socket, timeout_s=HANG_S) as client:
        answer: dict[str, Any] = client.get(path)
        return answer


def fill(agent: AgentProcess, to: AgentProcess) -> int:
    """Send until the agent takes no more and nobody comes to its aid. Returns: how many bundles it holds."""
    with connect_sync(agent.socket, timeout_s=HANG_S) as client:
        asked = {"to": f"dtn://{to.name}/sink", "count": COUNT, "size": OCTETS, "wait_s": 0.2}
        with pytest.raises(NoAnswerError, match=r"no room came within 0.2 s: the store is full"):
            list(client.stream("/v1/source", asked))
    return int(get(agent, "/v1/status")["store"]["bundles"])


def send_more(agent: AgentProcess, to: AgentProcess) -> None:
    with connect_sync(agent.socket, timeout_s=HANG_S) as client:
        list(client.stream("/v1/source", {"to": f"dtn://{to.name}/sink", "count": MORE, "size": OCTETS}))


def has_come(agent: AgentProcess, bundles: int) -> None:
    deadline = time.monotonic() + HANG_S
    while (report := get(agent, "/v1/sink"))["bundles"] < bundles:
        assert time.monotonic() < deadline, f"{agent.name}: only {report} of {bundles} came"
        time.sleep(POLL_S)
    assert (report["bundles"], report["verified"], report["duplicates"]) == (bundles, bundles, 0)


def test_full_agents_drain_and_take_bundles_again(tmp_path: Path) -> None:
    with Agents(tmp_path) as agents:
        ring = [agents.start(name, CONFIG.format(name=name, quota=QUOTA_OCTETS)) for name in NAMES]
        after = [*ring[1:], ring[0]]
        stored = [fill(agent, to) for agent, to in zip(ring, after, strict=True)]
        assert min(stored) > 0.6 * QUOTA_OCTETS / (OCTETS + 200)
        for agent, to in zip(ring, after, strict=True):
            with connect_sync(agent.socket, timeout_s=HANG_S) as client:
                client.post("/v1/links", {"kind": "tcpcl4", "connect": [address_of(to)]})
        for to, bundles in zip(after, stored, strict=True):
            has_come(to, bundles)
        for agent, to, bundles in zip(ring, after, stored, strict=True):
            send_more(agent, to)
            has_come(to, bundles + MORE)


def test_senders_are_pushed_back_and_go_on_by_themselves(tmp_path: Path) -> None:
    with Agents(tmp_path) as agents:
        ground, rover = (
            agents.start(name, CONFIG.format(name=name, quota=QUOTA_OCTETS)) for name in ("ground", "rover")
        )
        asked = {"to": "dtn://rover/sink", "count": COUNT, "size": OCTETS}
        with connect_sync(ground.socket, timeout_s=HANG_S) as client:
            events = client.stream("/v1/source", asked)
            waiting = next(event for event in events if event["event"] == "waiting")
            assert "the store is full" in waiting["reason"]
            assert 0 < waiting["stored"] < COUNT
            with connect_sync(ground.socket, timeout_s=HANG_S) as other:
                other.post("/v1/links", {"kind": "tcpcl4", "connect": [address_of(rover)]})
            *_, summary = events
        assert (summary["event"], summary["stored"]) == ("summary", COUNT)
        has_come(rover, COUNT)
        longer = {"to": "dtn://rover/sink", "count": 1, "size": QUOTA_OCTETS + 1}
        with connect_sync(ground.socket, timeout_s=HANG_S) as client, pytest.raises(RefusedError, match="never fits"):
            list(client.stream("/v1/source", longer))
