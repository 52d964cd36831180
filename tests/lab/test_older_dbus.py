"""The four-node laboratory of the older agent's file with its three agents in each node, driven by D-Bus calls inside them."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tumpline.lab import Lab
from tumpline.lab.api import unique
from tumpline.testing.leftovers import processes_under

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.slow]

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "older-four-nodes.yaml"
BP, ADMIN = "/org/ietf/dtn/bp/Agent", "/org/ietf/dtn/bp/app/admin"
TCPCL, CONTACT = "/org/ietf/dtn/tcpcl/Agent", "/org/ietf/dtn/tcpcl/Contact{}"
UDPCL = "/org/ietf/dtn/udpcl/Agent"
# Of the older agent's README.
ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE = "dDtaviYTPUWFS3NK37YWfQ", "tPUZNY4ONIk6LxErRFEjVw", "p3yRYFU4KxwQaHQjJ2RdiQ"
THUMBPRINT = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"
WAIT_S = 40


def call(lab: Lab, node: str, role: str, path: str, method: str, *arguments: str) -> str:
    """`dbus-send` in a node, to one of its agents; what it prints of the answer."""
    where = ["--system", f"--dest=org.ietf.dtn.node.{role}", path, f"org.ietf.dtn.{role}.{method}"]
    done = lab.exec(node, ["dbus-send", "--print-reply=literal", *where, *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def signals(lab: Lab, node: str, interface: str) -> Iterator[subprocess.Popen[str]]:
    """What `dbus-monitor` tells of an interface's signals; it listens when the block begins."""
    argv = ["dbus-monitor", "--system", f"type='signal',interface='{interface}'"]
    with lab.start(node, argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as monitor:
        try:
            until(monitor, "NameAcquired|NameLost")
            yield monitor
        finally:
            monitor.terminate()


def until(monitor: subprocess.Popen[str], pattern: str) -> str:
    """The next line that matches. The test's own time limit ends it."""
    assert monitor.stdout is not None
    for line in monitor.stdout:
        if re.search(pattern, line):
            return line.strip()
    raise AssertionError(f"dbus-monitor ended without {pattern}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(directory))
        with Lab.read(EXAMPLE, name=unique("dbus"), apart=True) as up:
            yield up
    assert processes_under(directory) == []


def test_sessions_are_seen_on_each_nodes_own_bus(lab: Lab) -> None:
    ping(lab, "depot", "dtn://harbour/")
    known = {call(lab, "lighthouse", "tcpcl", CONTACT.format(n), "Contact.get_session_state") for n in range(2)}
    assert known == {"established"}
    told = call(lab, "harbour", "tcpcl", CONTACT.format(0), "Contact.get_session_parameters")
    assert "dtn://lighthouse/" in told
    assert call(lab, "harbour", "tcpcl", CONTACT.format(0), "Contact.is_secure") == "boolean true"
    assert CONTACT.format(0) in call(lab, "depot", "tcpcl", TCPCL, "Agent.get_connections")


def test_a_ping_is_reported_from_node_to_node(lab: Lab) -> None:
    with signals(lab, "harbour", "org.tumpline.bp.Ping") as monitor:
        call(lab, "harbour", "bp", BP, "Agent.ping", "string:dtn://hut/echo", "int32:1000")
        until(monitor, "member=finished")
        assert until(monitor, "boolean") == "boolean true"


def test_a_node_id_is_validated_over_three_nodes(lab: Lab) -> None:
    """RFC 9891: harbour challenges hut, over TCPCL to the lighthouse and UDPCL from there."""
    call(lab, "hut", "bp", ADMIN, "admin.start_expect_acme_request", *texts(ID_CHAL, TOKEN_CHAL, THUMBPRINT))
    with signals(lab, "harbour", "org.ietf.dtn.bp.admin") as monitor:
        request = texts("dtn://hut/", ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT)
        call(lab, "harbour", "bp", ADMIN, "admin.send_acme_request", *request)
        until(monitor, "member=got_acme_response")
        assert [until(monitor, "string|boolean") for _ in range(3)] == [
            'string "dtn://hut/"',
            f'string "{ID_CHAL}"',
            "boolean true",
        ]
    call(lab, "hut", "bp", ADMIN, "admin.stop_expect_acme_request", f"string:{ID_CHAL}")


def test_the_convergence_layers_are_steered_beside_the_bundle_agent(lab: Lab) -> None:
    call(lab, "depot", "udpcl", UDPCL, "Agent.pmtud_start", "string:lighthouse", "uint16:4556", "int32:5")
    call(lab, "depot", "tcpcl", TCPCL, "Agent.listen", "string:127.0.0.1", "uint16:4600")
    call(lab, "depot", "tcpcl", TCPCL, "Agent.connect", "string:127.0.0.1", "uint16:4600")
    call(lab, "depot", "tcpcl", TCPCL, "Agent.listen_stop", "string:127.0.0.1", "uint16:4600")


def test_what_is_stopped_comes_back_and_goes_on(lab: Lab) -> None:
    lab.kill_agent("lighthouse")
    lab.start_agent("lighthouse")
    ping(lab, "harbour", "dtn://depot/")


def ping(lab: Lab, node: str, target: str) -> None:
    done = lab.exec(node, ["tumpline", "ping", target, "--count", "1", "--timeout", str(WAIT_S)])
    assert done.returncode == 0, done.stdout + done.stderr


def texts(*values: str) -> list[str]:
    return [f"string:{value}" for value in values]
