"""Property tests assert what comes out, not how fast: a busy machine is no failure. And a RabbitMQ for whoever wants one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tumpline.testing.rabbitmq import RabbitMq, Vhost, private_rabbitmq, shared_rabbitmq

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    """A real RabbitMQ that the whole test run shares: do not end it, and leave nothing outside of your virtual host."""
    base = tmp_path_factory.getbasetemp()
    directory = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with shared_rabbitmq(directory / "rabbitmq") as broker:
        yield broker


@pytest.fixture
def rabbitmq(rabbitmq_server: RabbitMq) -> Iterator[Vhost]:
    """A virtual host of its own on the RabbitMQ that all share."""
    vhost = rabbitmq_server.new_vhost()
    yield Vhost(rabbitmq_server, vhost)
    rabbitmq_server.drop_vhost(vhost)


@pytest.fixture
def own_rabbitmq(tmp_path: Path) -> Iterator[RabbitMq]:
    """A RabbitMQ to stop, kill and start again. It takes some 5 s."""
    with private_rabbitmq(tmp_path / "own-rabbitmq") as broker:
        yield broker
