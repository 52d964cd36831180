"""An alarm is never late, and makes no timer where the one that runs will do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tumpline.drivers.alarm import Alarm


class Timer:
    """What a loop gives for `call_at`."""

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop whose timers ring when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_at(self, at: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(at, call))
        return self.timers[-1]

    @property
    def running(self) -> list[float]:
        return [timer.at for timer in self.timers if not timer.cancelled]

    def ring(self) -> None:
        (timer,) = [each for each in self.timers if not each.cancelled]
        self.timers.clear()
        timer.call()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


def test_a_deadline_that_moves_back_costs_nothing(clock: Clock) -> None:
    alarm = Alarm(lambda: None)
    for at in (5.0, 6.0, 5.0, 100.0):
        alarm.set(at)
    alarm.set(None)
    assert [timer.at for timer in clock.timers] == [5.0]
    assert clock.running == [5.0]


def test_an_earlier_deadline_is_kept(clock: Clock) -> None:
    alarm = Alarm(lambda: None)
    alarm.set(5.0)
    alarm.set(4.0)
    assert clock.running == [4.0]


def test_who_is_called_sets_it_again(clock: Clock) -> None:
    rung: list[Any] = []

    def look_again() -> None:
        rung.append(len(rung))
        alarm.set(9.0)

    alarm = Alarm(look_again)
    alarm.set(5.0)
    clock.ring()
    assert rung == [0]
    assert clock.running == [9.0]


def test_what_is_cancelled_does_not_ring_but_may_be_set_again(clock: Clock) -> None:
    alarm = Alarm(lambda: None)
    alarm.cancel()
    alarm.set(5.0)
    alarm.cancel()
    assert clock.running == []
    alarm.set(7.0)
    assert clock.running == [7.0]
