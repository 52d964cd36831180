"""The log of what happens: a warning is told once, and again when it is still so after a while."""

from __future__ import annotations

import logging

import pytest

from tumpline.machines.effects import Notice
from tumpline.node.events import REPEATED_S, REPEATS_MAX, EventStream


class Told:
    """An event stream, its clock, and what it logged as warnings."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now = 0.0
        self.events = EventStream(lambda: self.now)
        self.notices: list[Notice] = []
        self.events.subscribe(self.notices.append)
        self._caplog = caplog

    def warnings(self) -> int:
        return sum(record.levelno == logging.WARNING for record in self._caplog.records)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    caplog.set_level(logging.INFO, "tumpline")
    return Told(caplog)


def test_a_repeated_warning_is_logged_once_a_minute_and_streamed_each_time(told: Told) -> None:
    for attempt in range(5):
        told.events.notice("store_failed", {"error": "disk full", "operations": attempt})
    assert told.warnings() == 1
    assert len(told.notices) == 5
    told.now += REPEATED_S
    told.events.notice("store_failed", {"error": "disk full", "operations": 9})
    assert told.warnings() == 2


def test_other_reasons_and_other_peers_are_other_warnings(told: Told) -> None:
    told.events.notice("connection_failed", {"address": "192.0.2.1:4556", "reason": "refused"})
    told.events.notice("connection_failed", {"address": "192.0.2.1:4557", "reason": "refused"})
    told.events.notice("connection_failed", {"address": "192.0.2.1:4557", "reason": "no answer"})
    assert told.warnings() == 3


def test_the_ports_of_those_who_come_say_nothing(told: Told) -> None:
    for port in range(40000, 40010):
        told.events.notice("session_failed", {"address": f"192.0.2.1:{port}", "reason": "expired"})
    assert told.warnings() == 1
    told.events.notice("session_failed", {"address": "192.0.2.2:40000", "reason": "expired"})
    assert told.warnings() == 2


def test_strangers_cannot_have_us_remember_for_ever(told: Told) -> None:
    for host in range(3 * REPEATS_MAX):
        told.events.notice("session_failed", {"address": f"host-{host}:1", "reason": "expired"})
    told.events.notice("session_failed", {"address": "host-0:1", "reason": "expired"})
    assert told.warnings() == 3 * REPEATS_MAX + 1


def test_a_session_that_ends_in_order_is_no_warning(told: Told) -> None:
    told.events.notice("session_terminated", {"reason": "the link is stopped", "clean": True})
    assert told.warnings() == 0
