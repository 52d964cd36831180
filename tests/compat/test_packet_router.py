"""The older packet router's command, between older agents over a real RabbitMQ."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tumpline.testing.older_members import OlderMember, Plan
from tumpline.testing.rabbitmq import Vhost

COMPAT = Path(__file__).parents[2] / "compat"
COMMAND = [sys.executable, "-m", "ioppytest.packet_router"]


@contextmanager
def router(vhost: Vhost, directory: Path, configuration: str) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {
        "PYTHONPATH": f"{COMPAT}",
        "XDG_RUNTIME_DIR": f"{directory}",
        "AMQP_URL": f"{vhost.uri}?heartbeat=0&blocked_connection_timeout=2&retry_delay=1&connection_attempts=3",
    }
    process = subprocess.Popen([*COMMAND, configuration], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert f"routes by {configuration}" in process.stdout.readline()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_nodes_of_a_configuration_see_each_other(rabbitmq: Vhost, tmp_path: Path, number: signal.Signals) -> None:
    with router(rabbitmq, tmp_path, "COAP_CFG_01") as process:
        with (
            OlderMember(rabbitmq.uri, Plan("coap_client")) as client,
            OlderMember(rabbitmq.uri, Plan("coap_server", 2)),
        ):
            client.ping("bbbb::2")
            assert client.next_echo().is_reply
        process.send_signal(number)
        assert process.wait(20) == 0
    assert rabbitmq.queues() == set()


def test_a_configuration_that_nobody_knows_is_named_with_those_there_are() -> None:
    environment = os.environ | {"PYTHONPATH": f"{COMPAT}"}
    done = subprocess.run([*COMMAND, "COAP_CFG_1"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no configuration COAP_CFG_1; did you mean COAP_CFG_01?" in done.stderr
