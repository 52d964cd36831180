"""The older packet agent itself as a neighbour: from its wheel, over a real RabbitMQ, with a network interface of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.amqp import AmqpUrl
from tumpline.testing.interop.older_packet_agent import OlderPacketAgent
from tumpline.testing.older_members import OlderMember, OlderRouter, Plan
from tumpline.testing.rabbitmq import Vhost
from tumpline.testing.sites import STEP_S, Sites, sites
from tumpline.wire.agent_json import ControlKind, Tun, addresses, decode_control_untrusted, encode_control, tun_of
from tumpline.wire.packet_json import Generation, decode_packet_untrusted, encode_packet

pytestmark = pytest.mark.interop

COMPAT = Path(__file__).parents[2] / "compat"


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with sites(["alice", "bob", "carol"], tmp_path_factory.mktemp("sites")) as made:
        yield made


@pytest.fixture
def session(laboratory: Sites, rabbitmq: Vhost) -> Iterator[Sites]:
    laboratory.connect_broker(rabbitmq.url)
    yield laboratory
    laboratory.end_agents()


def pinged(session: Sites, site: str, address: str, octets: int = 56, count: int = 3) -> str:
    """What ping says of it, without an answer lost or one that came twice."""
    # For the last answer it waits one interval, whatever -W says: 0.2 s are not enough for a busy machine.
    command = ["ping", "-c", str(count), "-i", "1", "-W", "5", "-s", str(octets), address]
    done = session.lab.exec(site, command)
    assert f"{count} packets transmitted, {count} received, 0% packet loss" in done.stdout, done.stdout
    assert "DUP!" not in done.stdout
    assert "duplicates" not in done.stdout
    return str(done.stdout)


def ours(session: Sites, site: str, name: str, *options: str) -> None:
    """Our agent, as its users start it."""
    agent = session.start(
        site,
        ["connect", "--name", name, *options],
        module="agent",
        env={"AMQP_URL": session.url(), "PYTHONPATH": str(COMPAT)},
    )
    agent.await_line(f"{name} is in the session")


def test_it_and_we_are_neighbours_without_a_router(session: Sites, tmp_path: Path) -> None:
    ours(session, "bob", "agent_2")
    with OlderPacketAgent(session, "alice", "agent_1", tmp_path):
        session.await_ping("alice", "bbbb::2")
        for octets in (56, 1400):
            pinged(session, "alice", "bbbb::2", octets)
            pinged(session, "bob", "bbbb::1", octets)
            pinged(session, "alice", "10.2.0.2", octets)
            pinged(session, "bob", "10.2.0.1", octets)


def test_two_of_them_and_we_with_a_router_like_theirs(session: Sites, rabbitmq: Vhost, tmp_path: Path) -> None:
    with (
        OlderRouter(rabbitmq.uri, [("agent_1", "agent_2", "agent_3")]),
        OlderPacketAgent(session, "alice", "agent_1", tmp_path),
        OlderPacketAgent(session, "bob", "agent_2", tmp_path),
    ):
        ours(session, "carol", "agent_3")
        session.await_ping("alice", "bbbb::3")
        session.await_ping("alice", "bbbb::2")
        for site in ("alice", "bob", "carol"):
            for number in {"alice": (2, 3), "bob": (1, 3), "carol": (1, 2)}[site]:
                pinged(session, site, f"bbbb::{number}")
                pinged(session, site, f"10.2.0.{number}", 1400)


def test_two_of_them_and_we_with_our_router(session: Sites, tmp_path: Path) -> None:
    router = session.start("carol", ["router"], env={"AMQP_URL": session.url()})
    router.await_line(" routes in the session ")
    with (
        OlderPacketAgent(session, "alice", "agent_1", tmp_path),
        OlderPacketAgent(session, "bob", "agent_2", tmp_path),
    ):
        ours(session, "carol", "agent_3")
        session.await_ping("alice", "bbbb::2")
        session.await_ping("carol", "bbbb::1")
        for octets in (56, 1400):
            pinged(session, "alice", "bbbb::2", octets)
            pinged(session, "bob", "10.2.0.1", octets)
            pinged(session, "carol", "bbbb::2", octets)
            pinged(session, "alice", "10.2.0.3", octets)


def test_a_session_of_all_generations_without_a_router(session: Sites, rabbitmq: Vhost, tmp_path: Path) -> None:
    ours(session, "bob", "agent_2")
    ours(session, "carol", "agent_3")
    with OlderPacketAgent(session, "alice", "agent_1", tmp_path), OlderMember(rabbitmq.uri, Plan("agent_5", 5, 0)):
        session.await_ping("alice", "bbbb::2")
        session.await_ping("bob", "bbbb::5")
        for number in (1, 3, 5):
            pinged(session, "bob", f"bbbb::{number}")
        for number in (1, 2, 5):
            pinged(session, "carol", f"10.2.0.{number}", 1400)
        for number in (2, 3):
            pinged(session, "alice", f"bbbb::{number}", 1400)


def test_coap_between_it_and_us(session: Sites, tmp_path: Path) -> None:
    ours(session, "bob", "agent_2")
    with OlderPacketAgent(session, "alice", "agent_1", tmp_path):
        session.await_ping("bob", "bbbb::1")
        for server, client, address in (("alice", "bob", "bbbb::1"), ("bob", "alice", "bbbb::2")):
            with session.program(server, ["coap-server-notls", "-A", address]):
                assert "clock" in fetched(session, client, f"coap://[{address}]/.well-known/core")


def fetched(session: Sites, site: str, url: str) -> str:
    """What is there; asked again until the server listens."""
    deadline = time.monotonic() + STEP_S
    command = ["coap-client-notls", "-B", "3", "-v", "0", "-m", "get", url]
    while not (answer := session.lab.exec(site, command).stdout):
        assert time.monotonic() < deadline, url
    return str(answer)


def test_it_and_we_over_the_broker_for_newcomers(laboratory: Sites, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tumpline", "broker", "--json", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as broker:
        assert broker.stdout is not None
        laboratory.connect_broker(AmqpUrl.parse(json.loads(broker.stdout.readline())["url"]))
        try:
            ours(laboratory, "bob", "agent_2")
            with OlderPacketAgent(laboratory, "alice", "agent_1", tmp_path):
                laboratory.await_ping("bob", "bbbb::1")
                pinged(laboratory, "alice", "10.2.0.2", 1400)
        finally:
            laboratory.end_agents()
            broker.terminate()


def test_it_answers_our_coordinator(session: Sites, tmp_path: Path) -> None:
    with OlderPacketAgent(session, "alice", "agent_1", tmp_path):
        done = asked_to_start(session, "agent_1", "bbbb", "1")
        assert done.stdout == "agent_1 has bbbb::1/64, fe80::1/64, 10.2.0.1/24\n"
        assert done.returncode == 0


def asked_to_start(session: Sites, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.utils.bootstrap_agent", *argv]
    environment = {"AMQP_URL": session.url(), "PYTHONPATH": str(COMPAT)}
    return session.lab.exec("carol", ["env", *(f"{key}={value}" for key, value in environment.items()), *command])


def test_what_it_says_is_what_we_would_say_but_for_blanks_between_numbers(
    session: Sites, rabbitmq: Vhost, tmp_path: Path
) -> None:
    bodies = heard(rabbitmq, session, tmp_path)
    started = [body for key, body in bodies if key == "fromAgent.agent_1.ip.tun.started"]
    packets = [body for key, body in bodies if key == "fromAgent.agent_1.ip.tun.packet.raw"]
    assert started
    assert packets
    for body in packets:
        ours = encode_packet(decode_packet_untrusted(body)[0], Generation.V1)
        assert ours.replace(b" ", b"") == body.replace(b" ", b"")
    for body in started:
        _, said = decode_control_untrusted(body, ControlKind.TUN_STARTED)
        assert isinstance(said, Tun)
        own = tun_of("agent_1", addresses(said))
        assert encode_control(ControlKind.TUN_STARTED, own, Generation.V1) == body


def heard(rabbitmq: Vhost, session: Sites, directory: Path) -> Sequence[tuple[str, bytes]]:
    """What it published until it was seen to be open and to have sent something."""
    pika: Any = import_module("pika")  # it has no types
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.uri))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", "fromAgent.#")
    bodies: list[tuple[str, bytes]] = []
    with OlderPacketAgent(session, "alice", "agent_1", directory) as agent:
        for method, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=STEP_S):
            assert method is not None, agent.said()[-4000:]
            bodies.append((method.routing_key, body))
            if method.routing_key.endswith("packet.raw"):
                break
            session.ping("alice", "bbbb::9", wait_s=0.1)  # nobody is there; the packet is seen
    connection.close()
    return bodies
