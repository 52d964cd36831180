"""`tumpline tunnel connect` as its user has it: sites that see nothing of each other, and a broker between them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.testing.leftovers import processes_under
from tumpline.testing.rabbitmq import Vhost
from tumpline.testing.sites import Sites, sites


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
