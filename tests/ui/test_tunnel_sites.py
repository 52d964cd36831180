"""`tumpline tunnel connect` as its user has it: sites that see nothing of each other, and a broker between them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.lab.processes import end_inside
from tumpline.testing.coap_server import LONG
from tumpline.testing.leftovers import processes_under
from tumpline.testing.rabbitmq import Vhost
from tumpline.testing.sites import STEP_S, SiteAgent, Sites, sites

AIOCOAP = [sys.executable, "-m", "aiocoap.cli.client", "-q"]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("run")
        patch.setenv("XDG_RUNTIME_DIR", str(directory))
        yield directory
    assert processes_under(directory) == []


@pytest.fixture(scope="module")
def three(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with sites(["alice", "bob", "carol"], tmp_path_factory.mktemp("sites")) as made:
        yield made


@pytest.fixture
def session(three: Sites, rabbitmq: Vhost) -> Iterator[Sites]:
    """The sites, and an empty session on a real RabbitMQ; when it ends, nothing may be left of it."""
    three.connect_broker(rabbitmq.url)
    yield three
    three.end_agents()
    assert interfaces(three) == {}
    assert rabbitmq.queues() == set()


def interfaces(made: Sites) -> dict[str, str]:
    """What sites have of network interfaces beyond their net's."""
    found = {site: made.lab.exec(site, ["ip", "-o", "link"]).stdout for site in ("alice", "bob", "carol")}
    return {site: links for site, links in found.items() if "tumpline" in links}


def test_sites_ping_each_other_over_both_versions(session: Sites) -> None:
    alice = session.connect("alice", "--address", "bbbb::1/64", "--address", "10.2.0.1/24")
    bob = session.connect("bob", "--address", "bbbb::2/64", "--address", "10.2.0.2/24")
    alice.await_event("ready")
    bob.await_event("ready")
    alice.await_event("member_joined", name="bob")
    session.await_ping("alice", "bbbb::2")
    session.await_ping("bob", "10.2.0.1")
    assert session.ping("alice", "fe80::2%tumpline0")
    assert alice.end(signal.SIGINT) == 0
    bob.await_event("member_left", name="alice", why="said so")
    assert bob.end(signal.SIGTERM) == 0


def two(session: Sites, *options: str) -> tuple[SiteAgent, SiteAgent]:
    """Alice and Bob, who know each other."""
    alice = session.connect("alice", "--ipv6-host", "1", *options)
    bob = session.connect("bob", "--ipv6-host", "2", *options)
    for agent in (alice, bob):
        agent.await_event("ready")
    session.await_ping("alice", "bbbb::2")
    return alice, bob


def test_a_name_that_is_taken_is_refused_and_leaves_the_machine_as_it_is(session: Sites) -> None:
    alice = session.connect("alice", "--ipv6-host", "1")
    alice.await_event("ready")
    second = session.connect("bob", name="alice")
    assert second.wait() == 5
    assert "an agent named alice is in this session already; stop it, or join under another name" in second.said()
    assert "bob" not in interfaces(session)


def test_what_is_killed_leaves_nothing_and_may_come_back_at_once(session: Sites) -> None:
    _, bob = two(session)
    bob.end(signal.SIGKILL)
    assert "bob" not in interfaces(session)
    assert len(list(session.runtime_dir.rglob("bob.*.sock"))) == 1, "as it was killed"
    session.connect("bob", "--ipv6-host", "2").await_event("ready")
    session.await_ping("alice", "bbbb::2")
    assert len(list(session.runtime_dir.rglob("bob.*.sock"))) == 1


def test_a_broker_that_is_away_at_first_is_waited_for_and_one_that_goes_comes_back(
    session: Sites, rabbitmq: Vhost
) -> None:
    session.cut_broker()
    impatient = session.connect("bob", "--timeout", "1s")
    assert impatient.wait() == 3
    assert "not in the session after 1 s: 10.99.0.1:5672: connection refused" in impatient.said()
    alice = session.connect("alice", "--ipv6-host", "1")
    away = alice.await_event("session_away")
    assert away["reason"].endswith("connection refused")
    assert interfaces(session) == {}
    session.connect_broker(rabbitmq.url)
    alice.await_event("ready")
    bob = session.connect("bob", "--ipv6-host", "2")
    bob.await_event("ready")
    session.await_ping("alice", "bbbb::2")
    pinging = session.lab.start("alice", ["ping", "-i", "0.05", "bbbb::2"], stdout=subprocess.DEVNULL)
    session.cut_broker()
    alice.await_event("session_lost")
    session.connect_broker(rabbitmq.url)
    alice.await_event("session_joined", count=2)
    bob.await_event("session_joined", count=2)
    session.await_ping("alice", "bbbb::2")
    end_inside(pinging)


def test_an_interface_that_somebody_removes_ends_the_agent_with_a_sentence(session: Sites) -> None:
    alice, _ = two(session)
    assert session.lab.exec("alice", ["ip", "link", "delete", "tumpline0"]).returncode == 0
    assert alice.wait() == 1
    assert "interface tumpline0 is gone" in alice.said()
    assert "start the agent again" in alice.said()


def test_under_a_key_nothing_is_sent_or_taken_in_the_clear(session: Sites, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a passphrase that all members have\n")
    two(session, "--key", str(tmp_path / "key"))
    stranger = session.connect("carol", "--ipv6-host", "3")
    stranger.await_event("ready")
    stranger.await_event("key_mismatch", name="alice")
    assert not session.ping("carol", "bbbb::1", wait_s=1.0)
    session.await_ping("alice", "bbbb::2")
    assert stranger.events("member_joined") == []


def test_a_password_is_said_by_nobody(session: Sites) -> None:
    agent = session.connect("alice", url=session.url(password="wr0ng-s3cret"))
    assert agent.wait() == 5
    assert "the broker refused the login of user" in agent.said()
    assert "wr0ng-s3cret" not in agent.said()
    good = session.connect("alice", "-vv")
    good.await_event("ready")
    good.end(signal.SIGINT)
    assert session.password not in good.said()


def test_status_shows_agents_members_and_packets(session: Sites) -> None:
    two(session)
    status = session.start("alice", ["tunnel", "status"])
    assert status.wait() == 0, status.said()
    lines = status.said().splitlines()
    assert lines[0].startswith("alice  amqp://")
    assert any(line.split()[:2] == ["bob", "member"] and "bbbb::2" in line for line in lines), status.said()
    missing = session.start("alice", ["tunnel", "status", "--name", "zoe"])
    assert missing.wait() == 4
    assert "no agent named zoe runs here" in missing.said()


def test_wireshark_reads_what_is_dumped(session: Sites, tmp_path: Path) -> None:
    dump = tmp_path / "alice.pcapng"
    alice = session.connect("alice", "--ipv6-host", "1", "--dump", str(dump))
    session.connect("bob", "--ipv6-host", "2").await_event("ready")
    alice.await_event("ready")
    session.await_ping("alice", "bbbb::2")
    shown = subprocess.run(
        ["tshark", "-r", str(dump), "-Y", "icmpv6.type == 129", "-T", "fields", "-e", "ipv6.src"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert shown.stdout.split() == ["bbbb::2"]


@pytest.mark.parametrize("options", [(), ("--format", "v1")])
def test_coap_through_the_tunnel(session: Sites, options: tuple[str, ...]) -> None:
    """libcoap and aiocoap, each as client and as server; the long resource goes block by block."""
    two(session, *options)
    url = "coap://[bbbb::2]"
    with session.program("bob", ["coap-server-notls", "-A", "bbbb::2"]):
        assert "clock" in fetch(session, ["coap-client-notls", "-v", "0", "-m", "get", f"{url}/.well-known/core"])
        assert "clock" in fetch(session, [*AIOCOAP, f"{url}/.well-known/core"])
    with session.program("bob", [sys.executable, "-m", "tumpline.testing.coap_server", "bbbb::2"]):
        for client in (["coap-client-notls", "-v", "0", "-m", "get"], AIOCOAP):
            assert fetch(session, [*client, f"{url}/long"]).strip() == LONG


def fetch(session: Sites, command: list[str]) -> str:
    """What the client got, once the server is there."""
    deadline = time.monotonic() + STEP_S
    while not (done := session.lab.exec("alice", command)).stdout:
        assert time.monotonic() < deadline, done.stderr
    return done.stdout
