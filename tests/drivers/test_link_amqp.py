"""Bundles over a session of the packet overlay, on both brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tumpline.drivers.amqp_broker import BrokerServer
from tumpline.drivers.dial import Address
from tumpline.drivers.links.amqp import SPEC
from tumpline.machines.amqp_broker import BrokerConfig
from tumpline.testing.conformance.links import Check, Pair, checks_of, run_with
from tumpline.testing.rabbitmq import Vhost

pytestmark = pytest.mark.timeout(60)


class Members(Pair):
    """The suite's pair: b is found by its name in the session."""

    remedy = "join under another name"

    def __init__(self, url: str, **more: Any) -> None:
        both = {"url": url, "discover": False, **more}
        super().__init__(SPEC, {"member": "a", **both}, {"member": "b", **both})

    def at(self, address: str) -> dict[str, Any]:
        return self._config_b


@pytest.fixture
async def embedded() -> AsyncIterator[str]:
    server = BrokerServer(BrokerConfig())
    await server.start(Address("127.0.0.1", 0))
    yield f"amqp://guest:guest@127.0.0.1:{server.port}/"
    await server.stop()


@pytest.mark.parametrize("check", checks_of(SPEC), ids=lambda check: check.__name__)
async def test_it_conforms_over_the_embedded_broker(embedded: str, check: Check) -> None:
    await run_with(check, lambda: Members(embedded))


@pytest.mark.parametrize("check", checks_of(SPEC), ids=lambda check: check.__name__)
async def test_it_conforms_over_rabbitmq(rabbitmq: Vhost, check: Check) -> None:
    await run_with(check, lambda: Members(rabbitmq.uri))
