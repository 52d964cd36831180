"""Probes of others are confirmed once, in time, and within bounds."""

from __future__ import annotations

from tumpline.machines.udpcl.confirming import NONCES_MOST, Confirming
from tumpline.wire.udpcl import Confirmation, Probe
from tumpline.wire.udpcl_range import NUMBERS_MOST, check_range


def test_the_delay_begins_with_the_last_probe() -> None:
    confirming = Confirming()
    for at, number in enumerate((2, 4, 6, 5, 5)):
        confirming.receive(Probe(123, number, 2000), float(at))
    assert confirming.next_timeout() == 6.0
    assert confirming.handle_timeout(5.9) == []
    assert confirming.handle_timeout(6.0) == [Confirmation(123, (2, 0, 0, 2))]
    assert confirming.next_timeout() is None


def test_a_confirmation_tells_only_what_is_new() -> None:
    confirming = Confirming()
    for number in (0, 1):
        confirming.receive(Probe(7, number, 0), 1.0)
        assert confirming.handle_timeout(1.0) == [Confirmation(7, (number, 0))]


def test_who_asks_for_too_much_is_passed_over() -> None:
    confirming = Confirming()
    confirming.receive(Probe(0, 0, 60_001), 0.0)
    assert confirming.next_timeout() is None
    for nonce in range(NONCES_MOST + 3):
        confirming.receive(Probe(nonce, 0, 0), 0.0)
    assert confirming.ignored == 4
    for number in range(2, 1000, 2):
        confirming.receive(Probe(0, number, 0), 0.0)
    first, *others = confirming.handle_timeout(0.0)
    check_range(first.numbers)
    assert len(first.numbers) == NUMBERS_MOST
    assert len(others) == NONCES_MOST - 1
