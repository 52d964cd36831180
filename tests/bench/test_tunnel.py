"""The bench of tunnels: its search for a rate, real packets on its veths, and all of it, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tumpline.bench import tunnel
from tumpline.bench.framework.api import Effort
from tumpline.bench.framework.tunnel_load import LOST_MOST, Load, Sent, best_rate
from tumpline.bench.framework.tunnel_net import SITES, TunnelNet


class Scripted:
    """A tunnel that carries so much, and loses what is beyond."""

    def __init__(self, carries_per_s: float) -> None:
        self.carries_per_s = carries_per_s
        self.trials: list[float] = []

    def trial(self, per_s: float) -> Sent:
        self.trials.append(per_s)
        came = min(per_s, self.carries_per_s)
        return Sent(per_s, came, 1 - came / per_s)


@pytest.mark.parametrize("carries", [100.0, 7_900.0, 8_000.0, 123_456.0])
def test_the_search_finds_what_a_tunnel_carries(carries: float) -> None:
    scripted = Scripted(carries)
    found = best_rate(scripted.trial, 8_000.0)
    assert carries * 0.7 <= found <= carries * (1 + LOST_MOST)
    assert len(scripted.trials) < 60


def test_medians_take_turns() -> None:
    asked: list[str] = []

    def measure(address: str) -> float:
        asked.append(address)
        return float(len(asked))

    assert tunnel.medians(measure, {"a": "1", "b": "2"}, 3) == {"a": 3.0, "b": 4.0}
    assert asked == ["1", "2"] * 3


def test_packets_on_the_veths_are_real(tmp_path: Path) -> None:
    with TunnelNet(tmp_path) as net:
        load = Load(net)
        load.await_up(f"{SITES['b']}.2", str)
        assert load.tcp_gbit_s(f"{SITES['b']}.2", 1) > 0
        (link,) = json.loads(net.holder.run("a", ["ip", "-j", "-s", "link", "show", "eth0"]))
    sent = link["stats64"]["tx"]
    assert sent["packets"] > 1000
    assert 1400 < sent["bytes"] / sent["packets"] <= 1514


@pytest.mark.slow
def test_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "FIRST_PER_S", {tunnel.SMALL: 2000.0, tunnel.LEGACY: 500.0})
    monkeypatch.setattr("tumpline.bench.framework.tunnel_load.STEP_UP", 20.0)
    figures = tunnel.SPEC.run(Effort(quick=True))
    assert tuple(figures) == tunnel.SPEC.figures
    assert all(figure.value > 0 and figure.limit > 0 and figure.ratio > 0 for figure in figures.values())
