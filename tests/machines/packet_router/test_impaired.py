"""Packets under way between agents: nothing is held without bounds, nothing is forgotten."""

from __future__ import annotations

from random import Random

import pytest

from tumpline.machines.impairment import Impairment
from tumpline.machines.packet_router import impaired
from tumpline.machines.packet_router.impaired import Impairments, Way

SLOW = Impairment(delay_s=10.0)


def test_all_pairs_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impaired, "HELD_OCTETS_MOST", 10_000)
    held = Impairments(SLOW, None, Random(1).random)
    for number in range(100):
        held.receive(Way("a", f"b{number}", None), SLOW, bytes(1000), 0.0)
    assert held.refused > 80
    came = [way.target for way, _ in held.due(10.0)]
    assert len(came) + held.refused == 100
    held.receive(Way("a", "b", None), SLOW, bytes(1000), 20.0)
    assert len(list(held.due(30.0))) == 1, "there is room again"


def test_pairs_are_bounded_and_those_at_rest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impaired, "PAIRS_MOST", 10)
    held = Impairments(SLOW, None, Random(1).random)
    for number in range(20):
        held.receive(Way("a", f"b{number}", None), SLOW, b"x", 0.0)
    assert len(held.snapshot()) == 10
    assert len(list(held.due(10.0))) == 10
    held.receive(Way("a", "c", None), SLOW, b"x", 20.0)
    assert held.next_timeout() == 30.0


def test_what_is_lost_or_doubled_is_reckoned_right() -> None:
    troubled = Impairment(delay_s=0.1, loss=0.3, duplicate=0.3)
    held = Impairments(troubled, None, Random(3).random)
    for number in range(500):
        held.receive(Way("a", "b", None), troubled, bytes(100), number / 1000)
    list(held.due(100.0))
    assert held._held_octets == 0
