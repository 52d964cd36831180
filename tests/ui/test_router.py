"""`tumpline router` as its user has it: options, what it says, what it shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tumpline.drivers.overlay.share_queues import QueueKind
from tumpline.errors import ConfigError
from tumpline.node.overlay.router import RouterWish, router_settings_of
from tumpline.testing.older_members import OlderMember, Plan
from tumpline.testing.rabbitmq import Vhost

COMMAND = [sys.executable, "-m", "tumpline", "router"]
URL = "amqp://guest:guest@localhost/"


@contextmanager
def router(directory: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the first line that it says."""
    environment = os.environ | {"XDG_RUNTIME_DIR": f"{directory}"}
    process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def shown(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XDG_RUNTIME_DIR": f"{directory}"}
    return subprocess.run([*COMMAND, "--status", *options], env=environment, capture_output=True, text=True)


def test_it_routes_is_shown_and_leaves_nothing(rabbitmq: Vhost, tmp_path: Path) -> None:
    options = ["--url", rabbitmq.uri, "--name", "hub", "--impair", "loss: 0 %"]
    with router(tmp_path, *options) as (process, said):
        assert said.startswith("hub routes in the session amqp://tester@127.0.0.1:")
        assert rabbitmq.url.password not in said
        with OlderMember(rabbitmq.uri, Plan("agent_1")) as one, OlderMember(rabbitmq.uri, Plan("agent_2", 2)):
            one.ping("bbbb::2")
            assert one.next_echo().is_reply
            text = shown(tmp_path).stdout
            value = json.loads(shown(tmp_path, "--json", "--name", "hub").stdout)["routers"][0]
        assert "passed on 2 of 2 packets, 0 of them to all" in text
        assert "agent_1" in text
        assert "bbbb::1 (started)" in text
        assert value["counters"]["passed"] == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert rabbitmq.queues() == set()
    assert list((tmp_path / "tumpline" / "router").iterdir()) == []


def test_where_none_runs_that_is_said(tmp_path: Path) -> None:
    done = shown(tmp_path, "--name", "nobody")
    assert done.returncode == 4
    assert "no router named nobody runs here: start one with `tumpline router`" in done.stderr


def test_what_the_broker_refuses_is_said_in_one_line(rabbitmq: Vhost, tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "--url", rabbitmq.uri + "x"], capture_output=True, text=True)
    assert done.returncode == 5
    assert "no virtual host" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"name": "a.b"}, "--name a.b: '.' cannot stand in a name"),
        ({"shards": 0}, "--shards 0: write 1"),
        ({"shards": 1000}, "--shards 1000: write 1"),
        ({"queue_length": 1}, "--queue-length 1: write 10 to 1000000"),
        ({"queue_expires": "soon"}, "--queue-expires soon: "),
        ({"queue_expires": "1ms"}, "--queue-expires 1ms: write 1s or more"),
        ({"impair": "delay"}, "--impair"),
        ({"impair": "delay: [1"}, "--impair 'delay: .1': write for example 'delay: 20 ms, loss: 1 %'"),
        ({"impair": "dely: 1 ms"}, "--impair: dely: is unknown; did you mean delay?"),
        ({"config": "COAP_CFG_3"}, "did you mean COAP_CFG_0"),
        ({"url": "http://x"}, "--url: "),
        ({"key": Path("/nowhere")}, "--key /nowhere: No such file"),
    ],
)
def test_mistakes_are_said_with_their_option(wish: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        router_settings_of(RouterWish(**{"url": URL, **wish}))  # type: ignore[arg-type]


def test_what_is_asked_becomes_settings(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    settings = router_settings_of(
        RouterWish(url=URL, shards=4, queue_type="quorum", queue_expires="90s", key=key, impair="{delay: 20 ms}")
    )
    assert settings.queues.kind is QueueKind.QUORUM
    assert settings.queues.declaration()["arguments"]["x-expires"] == 90_000
    assert settings.router.member.given_key == bytes(range(32))
    assert settings.router.impairment is not None
    assert settings.router.impairment.delay_s == 0.02
    assert settings.router.name.startswith("router_")
