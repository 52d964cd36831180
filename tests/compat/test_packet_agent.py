"""The older packet agent's commands, word for word, in sites that see nothing of each other, over a real RabbitMQ."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.testing.leftovers import processes_under
from tumpline.testing.older_members import OlderMember, Plan
from tumpline.testing.rabbitmq import Vhost
from tumpline.testing.sites import SiteAgent, Sites, sites

COMPAT = Path(__file__).parents[2] / "compat"
SITES = ("alice", "bob")


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    directory = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(directory))
        with sites(SITES, tmp_path_factory.mktemp("sites")) as made:
            yield made
    assert processes_under(directory) == []


@pytest.fixture
def session(laboratory: Sites, rabbitmq: Vhost) -> Iterator[Sites]:
    """The sites, and an empty session; when it ends, nothing may be left of it."""
    laboratory.connect_broker(rabbitmq.url)
    yield laboratory
    laboratory.end_agents()
    assert rabbitmq.queues() == set()
    for site in SITES:
        assert "tumpline" not in laboratory.lab.exec(site, ["ip", "-o", "link"]).stdout


def environment(session: Sites) -> dict[str, str]:
    return {"AMQP_URL": session.url(), "PYTHONPATH": str(COMPAT)}


def connected(session: Sites, site: str, *options: str) -> SiteAgent:
    """`python -m agent connect ...`."""
    agent = session.start(site, ["connect", *options], module="agent", env=environment(session))
    agent.await_line("is in the session")
    return agent


def run(session: Sites, site: str, *command: str) -> subprocess.CompletedProcess[str]:
    variables = [f"{name}={value}" for name, value in environment(session).items()]
    return session.lab.exec(site, ["env", *variables, sys.executable, *command])


def fields(path: Path, *names: str) -> list[list[str]]:
    """Of each ICMPv6 packet of a capture, as tshark reads it."""
    options = [option for name in names for option in ("-e", name)]
    command = ["tshark", "-r", str(path), "-Y", "icmpv6", "-T", "fields", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_two_agents_word_for_word_from_bootstrap_to_ctrl_c(session: Sites, tmp_path: Path) -> None:
    """One has its address by its name, the other waits until a coordinator gives it one."""
    server = connected(session, "alice", "--name", "agent_1", "--dump", str(tmp_path / "server.pcapng"))
    client = connected(session, "bob", "--name", "coap_client")
    assert "tumpline" not in session.lab.exec("bob", ["ip", "-o", "link"]).stdout
    done = run(session, "alice", "-m", "agent.utils.bootstrap_agent", "coap_client", "bbbb", ":3")
    assert (done.returncode, done.stdout) == (0, "coap_client has bbbb::3/64, fe80::3/64\n"), done.stderr
    session.await_ping("bob", "bbbb::1")
    assert session.ping("alice", "bbbb::3")
    assert server.end(signal.SIGINT) == 0
    assert client.end(signal.SIGTERM) == 0
    seen = fields(tmp_path / "server.pcapng", "ipv6.src", "icmpv6.type")
    assert ["bbbb::3", "128"] in seen
    assert ["bbbb::1", "129"] in seen
    assert "tester" in client.said()
    assert "s3cret" not in client.said() + server.said()


def test_as_a_script_of_2017(session: Sites) -> None:
    done = run(session, "alice", str(COMPAT / "agent.py"), "connect", "--name", "no.name")
    assert done.returncode == 2
    assert "no.name" in done.stderr


def test_a_coordinator_is_told_that_nobody_answers(session: Sites) -> None:
    done = run(session, "alice", "-m", "agent.utils.bootstrap_agent", "nobody", "bbbb", "3")
    assert done.returncode == 3
    assert "nobody was asked 3 times in 3 s" in done.stderr


@pytest.mark.parametrize("generation", [0, 1])
def test_older_agents_and_the_dumper(session: Sites, rabbitmq: Vhost, tmp_path: Path, generation: int) -> None:
    """What older agents say is captured by whoever listens, until the test is over."""
    path = tmp_path / "session.pcapng"
    dumper = session.start("bob", ["--file", str(path)], module="agent.utils.packet_dumper", env=environment(session))
    dumper.await_line("is up")
    connected(session, "alice", "--name", "agent_1")
    with OlderMember(rabbitmq.uri, Plan("agent_5", 5, generation)) as older:
        older.ping("bbbb::1", 7)
        assert older.next_echo().sequence == 7
        assert session.ping("alice", "10.2.0.5")
        if generation == 1:
            older.publish("testingtool.terminate", {})
        else:
            older.publish("control.session", {"_type": "chat"})  # nothing that ends it
            older.publish("control.session", {"_type": "testingtool.terminate"})
        assert dumper.process.wait(20) == 0
    assert ["bbbb::5", "128", "7"] in fields(path, "ipv6.src", "icmpv6.type", "icmpv6.echo.sequence_number")
