"""The older demo agent's README, command by command, with plain dbus-send: on a session's own bus, and on ours."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.testing.interop.process import free_port, wait_for

COMPAT = Path(__file__).parents[2] / "compat"
ADDRESS = re.compile(r"^unix:.+$", re.MULTILINE)
AGENT, CONTACT = "/org/ietf/dtn/tcpcl/Agent", "/org/ietf/dtn/tcpcl/Contact0"

# As those that lie beside the README, with a port that is free: one node listens, the other waits for what it is told.
SERVER = """
tcpcl:
    bus_service: dtn.tcpcl.Server
    node_id: dtn://server/
    tls_enable: False
    tls_ca_file: testpki/ca.crt
    tls_key_file: testpki/server.key
    tls_cert_file: testpki/server.crt

    init_listen:
        address: localhost
        port: {port}

bp:
    bus_service: dtn.bp.Server
    node_id: dtn://server/
    cl_attach: dtn.tcpcl.Server
"""
CLIENT = """
tcpcl:
    bus_service: dtn.tcpcl.Client
    node_id: dtn://client/

    tls_enable: False
    tls_ca_file: testpki/ca.crt
    tls_key_file: testpki/client.key
    tls_cert_file: testpki/client.crt

bp:
    bus_service: dtn.bp.Client
    node_id: dtn://client/
    cl_attach: dtn.tcpcl.Client

    route_table:
       -  eid_pattern: "dtn://server/.*"
          next_nodeid: dtn://server/
          address: localhost

    tls_ca_file: testpki/ca.crt
    tls_key_file: testpki/client.key
    tls_cert_file: testpki/client.crt
"""


class Desk:
    """A user's session: a bus, agents in the background, commands in the foreground."""

    def __init__(self, directory: Path, bus: list[str]) -> None:
        self.directory = directory
        self._environment = {**os.environ, "PYTHONPATH": str(COMPAT), "XDG_RUNTIME_DIR": str(directory)}
        self._running: list[subprocess.Popen[str]] = []
        process = self.start(*bus)
        found = wait_for(lambda: ADDRESS.search(self.said(process)), "the bus says its address")
        self._environment["DBUS_SESSION_BUS_ADDRESS"] = found[0]

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """In the background; what it says goes into a file."""
        with (self.directory / f"said-{len(self._running)}").open("w") as said:
            process = subprocess.Popen(
                argv,
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                text=True,
            )
        self._running.append(process)
        return process

    def said(self, process: subprocess.Popen[str]) -> str:
        return (self.directory / f"said-{self._running.index(process)}").read_text()

    def run(self, *argv: str, code: int = 0) -> str:
        done = subprocess.run(
            argv, cwd=self.directory, env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def agent(self, config: str) -> subprocess.Popen[str]:
        return self.start(sys.executable, "-m", "tcpcl.agent", f"--config-file={config}")

    def send(self, service: str, path: str, member: str, *arguments: str) -> str:
        """dbus-send as the README writes it; what it prints below the first line."""
        text = self.run("dbus-send", "--print-reply", f"--dest={service}", path, member, *arguments)
        return text.partition("\n")[2].strip()

    def wait(self, text: str, *argv: str) -> None:
        """Ask again and again until the reply has this text."""
        wait_for(lambda: text in self.send(*argv) or None, f"{' '.join(argv)} says {text}")

    def wait_gone(self, text: str, *argv: str) -> None:
        """Ask again and again until the reply does not have this text."""
        wait_for(lambda: text not in self.send(*argv) or None, f"{' '.join(argv)} does not say {text} any more")

    def owned(self, service: str) -> None:
        """Wait until somebody has this name."""
        bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus")
        self.wait("true", *bus, "org.freedesktop.DBus.NameHasOwner", f"string:{service}")

    def ended(self, process: subprocess.Popen[str]) -> int:
        return process.wait(30)

    def close(self) -> None:
        for process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(20)
            assert process.stdin is not None
            process.stdin.close()


# A bus that lives as long as its standard input.
HELD = "import os, sys; print(os.environ['DBUS_SESSION_BUS_ADDRESS'], flush=True); sys.stdin.read()"
PYTHON = sys.executable
BUSES = {
    "dbus-run-session": ["dbus-run-session", "--", PYTHON, "-c", HELD],
    "embedded": [PYTHON, "-m", "tumpline", "bus", "--address", "unix:path={}/bus", "--print-address"],
}


@pytest.fixture(params=sorted(BUSES))
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, [word.format(tmp_path) for word in BUSES[request.param]])
    yield desk
    desk.close()


@pytest.fixture
def port(desk: Desk) -> int:
    """Both agents run; the server listens there."""
    number = free_port()
    (desk.directory / "server.yaml").write_text(SERVER.format(port=number))
    (desk.directory / "client.yaml").write_text(CLIENT)
    desk.agent("server.yaml")
    desk.agent("client.yaml")
    desk.owned("dtn.tcpcl.Server")
    desk.owned("dtn.tcpcl.Client")
    return number


def connected(desk: Desk, port: int) -> None:
    reply = desk.send(
        "dtn.tcpcl.Client", AGENT, "org.ietf.dtn.tcpcl.Agent.connect", "string:localhost", f"uint16:{port}"
    )
    assert reply == f'object path "{CONTACT}"'
    for service in ("dtn.tcpcl.Client", "dtn.tcpcl.Server"):
        desk.wait(CONTACT, service, AGENT, "org.ietf.dtn.tcpcl.Agent.get_connections")
        desk.wait("true", service, CONTACT, "org.ietf.dtn.tcpcl.Contact.is_sess_idle")


def test_a_file_goes_from_one_agent_to_the_other(desk: Desk, port: int) -> None:
    connected(desk, port)
    contact = ("dtn.tcpcl.Client", CONTACT)
    assert desk.send(*contact, "org.ietf.dtn.tcpcl.Contact.is_secure") == "boolean false"
    sent = desk.send(*contact, "org.ietf.dtn.tcpcl.Contact.send_bundle_file", "string:/etc/hostname")
    assert sent == 'string "1"'
    server = ("dtn.tcpcl.Server", CONTACT)
    queue = (*server, "org.ietf.dtn.tcpcl.Contact.recv_bundle_get_queue")
    desk.wait('string "1"', *queue)
    desk.wait_gone("string", *contact, "org.ietf.dtn.tcpcl.Contact.send_bundle_get_queue")
    destination = desk.directory / "dest"
    desk.send(*server, "org.ietf.dtn.tcpcl.Contact.recv_bundle_pop_file", "string:1", f"string:{destination}")
    assert destination.read_bytes() == Path("/etc/hostname").read_bytes()
    assert "string" not in desk.send(*queue)


def test_data_goes_back(desk: Desk, port: int) -> None:
    connected(desk, port)
    server, client = ("dtn.tcpcl.Server", CONTACT), ("dtn.tcpcl.Client", CONTACT)
    sent = desk.send(*server, "org.ietf.dtn.tcpcl.Contact.send_bundle_data", "array:byte:0x9f,0x00,0xff")
    assert sent == 'string "1"'
    queue = (*client, "org.ietf.dtn.tcpcl.Contact.recv_bundle_get_queue")
    desk.wait('string "1"', *queue)
    popped = desk.send(*client, "org.ietf.dtn.tcpcl.Contact.recv_bundle_pop_data", "string:1")
    assert re.sub(r"\s+", " ", popped) == "array of bytes [ 9f 00 ff ]"


def test_listening_begins_and_ends_when_told(desk: Desk, port: int) -> None:
    more = free_port()
    agent = ("dtn.tcpcl.Server", AGENT)
    desk.send(*agent, "org.ietf.dtn.tcpcl.Agent.listen", "string:localhost", f"uint16:{more}")
    connected(desk, more)
    desk.send(*agent, "org.ietf.dtn.tcpcl.Agent.listen_stop", "string:localhost", f"uint16:{more}")
    connections = ("dtn.tcpcl.Client", AGENT, "org.ietf.dtn.tcpcl.Agent.get_connections")
    for member, *arguments in (("terminate", "byte:0"), ("close",)):
        (path,) = re.findall(r'object path "(.*)"', desk.send(*connections))
        desk.send("dtn.tcpcl.Client", path, f"org.ietf.dtn.tcpcl.Contact.{member}", *arguments)
        desk.wait_gone("object path", *connections)
        desk.send("dtn.tcpcl.Client", AGENT, "org.ietf.dtn.tcpcl.Agent.connect", "string:localhost", f"uint16:{port}")


def test_shutdown_and_stop(desk: Desk, port: int) -> None:
    server, client = desk._running[1:]
    assert desk.send("dtn.tcpcl.Client", AGENT, "org.ietf.dtn.tcpcl.Agent.shutdown") == "boolean true"
    assert desk.ended(client) == 0
    desk.send("dtn.tcpcl.Server", AGENT, "org.ietf.dtn.tcpcl.Agent.stop")
    assert desk.ended(server) == 0


def test_bundlegen(desk: Desk) -> None:
    desk.run(sys.executable, "-m", "tcpcl.test.bundlegen", "fullvalid", "10")
    desk.run(sys.executable, "-m", "udpcl.test.bundlegen", "fullvalid", "--gencount", "10")
