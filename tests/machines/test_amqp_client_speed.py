"""What a message costs our client: 1.5 us to publish 1400 octets, 3 us to receive them, where this was written."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.machines.test_amqp_client import KEY, PROPERTIES, Client, delivered

pytestmark = pytest.mark.measured

SLACK = 4  # machines differ; what became ten times slower is seen
BODY = bytes(1400)
MESSAGES = 200  # of one read: 256 KiB hold as many


def cpu_us(work: Callable[[], None]) -> float:
    """Of a message, the best of several."""
    best = float("inf")
    for _ in range(20):
        begin = time.process_time()
        work()
        best = min(best, (time.process_time() - begin) / MESSAGES * 1e6)
    return best


def test_publishing() -> None:
    machine = Client().with_channel().machine

    def publish() -> None:
        for _ in range(MESSAGES):
            machine.publish(1, "amq.topic", KEY, BODY, PROPERTIES)
        machine.data_to_send(0.0)

    assert cpu_us(publish) < 1.5 * SLACK


def test_receiving() -> None:
    machine = Client().with_channel().machine
    data = memoryview(b"".join(delivered(number, BODY) for number in range(MESSAGES)))

    def receive() -> None:
        assert machine.received(data, 0.0) == len(data)
        (event,) = machine.events()
        assert len(event.deliveries) == MESSAGES  # type: ignore[union-attr]

    assert cpu_us(receive) < 3 * SLACK
