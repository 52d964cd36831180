"""The older agent's commands, word for word, as processes on a real bus."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tumpline.node import ca
from tumpline.testing.buses import dbus_daemon, dbus_send
from tumpline.testing.interop.process import free_port

COMPAT = Path(__file__).parent.parent.parent / "compat"
UDPCL = "/org/ietf/dtn/udpcl/Agent"
AGENT, CONTACT = "/org/ietf/dtn/tcpcl/Agent", "/org/ietf/dtn/tcpcl/Contact0"
YAML = """\
tcpcl:
  log_level: info
  bus_service: dtn.{name}.tcpcl
  node_id: dtn://{name}/
  tls_enable: False
  init_listen:
    - address: 127.0.0.1
      port: {port}
"""
TLS = """\
  tls_ca_file: ca.pem
  tls_cert_file: {name}.pem
  tls_key_file: {name}.key
  require_tls: True
  require_node_authn: True
"""
PARAMETERS = "get_session_parameters"
BP = """\
bp:
  bus_service: dtn.{name}.bp
  node_id: dtn://{name}/
  rx_route_table: [{{eid_pattern: 'dtn://{name}/.*', action: deliver}}]
"""
TO_FAR = """\
  tx_route_table:
    - {{eid_pattern: 'dtn://far/.*', next_nodeid: 'dtn://far/', cl_type: tcpcl, address: 127.0.0.1, port: {port}}}
"""
# As the older agent's: asctime PID:.. TID:.. <LEVEL> logger: message.
LOG_LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} PID:\d+ TID:\d+ <(DEBUG|INFO|WARNING|ERROR)> tumpline\.\S+: .+"
)


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory, dbus_daemon(Path(directory)) as address:
        yield address


@contextmanager
def running(bus: str, where: Path, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """An agent, from when it says that it is up. It is to end by itself, or by what the block does."""
    with subprocess.Popen(
        [sys.executable, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=where,
        env=environment(bus, where),
    ) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert said.endswith("is up\n"), said + process.communicate(timeout=20)[1]
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def environment(bus: str, where: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DBUS_", "XDG_", "TUMPLINE_"))}
    own = {f"XDG_{name}": str(where / name.lower()) for name in ("RUNTIME_DIR", "STATE_HOME", "CONFIG_HOME")}
    return kept | own | {"DBUS_SESSION_BUS_ADDRESS": bus, "PYTHONPATH": str(COMPAT)}


def ended(bus: str, where: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command that ends at once."""
    command = [sys.executable, *argv]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=where, env=environment(bus, where), timeout=60, check=False
    )


def call(bus: str, name: str, path: str, method: str, *arguments: str) -> str:
    done = dbus_send(bus, name, path, f"org.ietf.dtn.tcpcl.{path.rpartition('/')[2].rstrip('0')}.{method}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def established(bus: str, name: str) -> None:
    """Ask until the first session is."""
    end = time.monotonic() + 20
    while dbus_send(bus, name, CONTACT, "org.ietf.dtn.tcpcl.Contact.get_session_state").stdout.strip() != "established":
        assert time.monotonic() < end


def write(where: Path, name: str, port: int) -> None:
    (where / f"{name}.yaml").write_text(YAML.format(name=name, port=port))


def test_two_agents_word_for_word_and_what_ends_them(bus: str, tmp_path: Path) -> None:
    port = free_port()
    write(tmp_path, "server", port)
    write(tmp_path, "client", free_port())
    with (
        running(bus, tmp_path, "-m", "tcpcl.agent", "--config-file=server.yaml") as server,
        running(bus, tmp_path, "-m", "tcpcl.cmd", "--config", "client.yaml", "--log-level=DEBUG") as client,
    ):
        told = call(bus, "dtn.client.tcpcl", AGENT, "connect", "string:127.0.0.1", f"uint16:{port}")
        assert CONTACT in told
        client.send_signal(signal.SIGTERM)
        assert client.wait(20) == 0
        call(bus, "dtn.server.tcpcl", AGENT, "stop")
        assert server.wait(20) == 0
        assert server.stderr is not None
        lines = server.stderr.read().splitlines()
    assert any("connection" in line for line in lines)
    assert not [line for line in lines if not LOG_LINE.fullmatch(line)]


def test_tls_with_node_ids_proved_as_rfc_9174_has_them(bus: str, tmp_path: Path) -> None:
    """`require_node_authn: true` with a bundleEID in the certificate: there, such sessions always failed."""
    ca.init_ca(tmp_path)
    port = free_port()
    for name, own in (("server", port), ("client", free_port())):
        ca.issue(tmp_path, [f"dtn://{name}/"])
        write(tmp_path, name, own)
        file = tmp_path / f"{name}.yaml"
        file.write_text(file.read_text().replace("  tls_enable: False\n", TLS.format(name=name)))
    with (
        running(bus, tmp_path, "-m", "tcpcl.agent", "--config=server.yaml") as server,
        running(
            bus, tmp_path, "-m", "tcpcl.agent", "--config=client.yaml", "connect", "127.0.0.1", f"--port={port}"
        ) as client,
    ):
        established(bus, "dtn.client.tcpcl")
        assert call(bus, "dtn.client.tcpcl", CONTACT, "is_secure").strip() == "boolean true"
        assert re.search(r"authn_nodeid\s+variant\s+dtn://server/", call(bus, "dtn.client.tcpcl", CONTACT, PARAMETERS))
        for name, process in (("client", client), ("server", server)):
            call(bus, f"dtn.{name}.tcpcl", AGENT, "stop")
            assert process.wait(20) == 0


def test_the_old_actions_at_the_start(bus: str, tmp_path: Path) -> None:
    """`listen` and `connect` of before 2025, without any file."""
    port = free_port()
    listen = (
        "-m",
        "tcpcl.agent",
        "--bus-service=x.listens",
        f"--bus-addr={bus}",
        "listen",
        "--address=127.0.0.1",
        f"--port={port}",
    )
    connect = (
        "-m",
        "tcpcl.agent",
        "--bus-service=x.connects",
        "--log-level=info",
        "connect",
        "127.0.0.1",
        f"--port={port}",
    )
    with running(bus, tmp_path, *listen) as server, running(bus, tmp_path, *connect) as client:
        assert client.stderr is not None
        assert server.stderr is not None
        assert f"connection with 127.0.0.1:{port}" in client.stderr.readline()
        assert "connection with 127.0.0.1:" in server.stderr.readline()
        assert CONTACT in call(bus, "x.listens", AGENT, "get_connections")
        for name, process in (("x.connects", client), ("x.listens", server)):
            call(bus, name, AGENT, "stop")
            assert process.wait(20) == 0


def test_a_udpcl_agent_that_listens(bus: str, tmp_path: Path) -> None:
    argv = ("-m", "udpcl.agent", "--bus-service=x.udpcl", "listen", "--address=127.0.0.1", f"--port={free_port()}")
    with running(bus, tmp_path, *argv) as agent:
        assert dbus_send(bus, "x.udpcl", UDPCL, "org.ietf.dtn.udpcl.Agent.recv_bundle_get_queue").returncode == 0
        assert dbus_send(bus, "x.udpcl", UDPCL, "org.ietf.dtn.udpcl.Agent.stop").returncode == 0
        assert agent.wait(20) == 0


def test_bundle_agents_over_their_convergence_layers_and_a_ping_at_the_start(bus: str, tmp_path: Path) -> None:
    port = free_port()
    write(tmp_path, "far", port)
    write(tmp_path, "near", free_port())
    for name, more in (("far", ""), ("near", TO_FAR.format(port=port))):
        with (tmp_path / f"{name}.yaml").open("a") as file:
            file.write(BP.format(name=name) + more)
    with (
        running(bus, tmp_path, "-m", "tcpcl.agent", "--config=far.yaml"),
        running(bus, tmp_path, "-m", "bp.agent", "--config=far.yaml"),
        running(bus, tmp_path, "-m", "tcpcl.agent", "--config=near.yaml"),
        running(bus, tmp_path, "-m", "bp.agent", "--config=near.yaml", "ping", "dtn://far/echo", "1000") as near,
    ):
        assert near.stdout is not None
        until = (line for line in near.stdout if "delivered" in line)
        assert re.fullmatch(r"ping dtn://far/echo: delivered after \d+ ms\n", next(until))
        near.send_signal(signal.SIGTERM)
        assert near.wait(20) == 0


def test_mistakes_are_told_with_their_line(bus: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("tcpcl:\n  tls_enabled: False\n  keepalive_time: x\n")
    done = ended(bus, tmp_path, "-m", "tcpcl.agent", "--config-file=bad.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "tcpcl-agent: bad.yaml:2: tcpcl.tls_enabled: there is no such key; did you mean 'tls_enable'?",
        "tcpcl-agent: bad.yaml:3: tcpcl.keepalive_time: this is the text 'x', and must be a whole number; "
        "write a number without quotes",
    ]


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (["--config-file=none.yaml"], 2, "tcpcl-agent: none.yaml does not exist"),
        (["--config-file"], 2, "expected one argument"),
        (["--log-level=loud"], 2, "invalid choice: 'loud'"),
        (["listen", "--port=70000"], 2, "'70000' is no port: write 0 to 65535"),
        (["connect", ""], 2, "address: missing"),
        (["connect", "1.2.3.4:5"], 2, "'1.2.3.4:5' is no address"),
        (["--bus-addr=unix:path=/nowhere/bus"], 4, "/nowhere/bus"),
    ],
)
def test_what_cannot_be(bus: str, tmp_path: Path, argv: list[str], code: int, sentence: str) -> None:
    done = ended(bus, tmp_path, "-m", "tcpcl.agent", *argv)
    assert sentence in done.stderr
    assert done.returncode == code


def test_a_name_that_somebody_has(bus: str, tmp_path: Path) -> None:
    with running(bus, tmp_path, "-m", "tcpcl.agent", "--bus-service=x.only.one") as first:
        second = ended(bus, tmp_path, "-m", "tcpcl.agent", "--bus-service=x.only.one")
        assert second.returncode != 0
        assert "x.only.one" in second.stderr
        call(bus, "x.only.one", AGENT, "stop")
        assert first.wait(20) == 0


def test_bundlegen_word_for_word(bus: str, tmp_path: Path) -> None:
    done = ended(bus, tmp_path, "-m", "tcpcl.test.bundlegen", "fullvalid", "10", "--port", str(free_port()))
    assert done.returncode == 0, done.stderr
    assert ended(bus, tmp_path, "-m", "tcpcl.test.messagegen", "--help").returncode == 0


def test_all_packages_are_in_the_distribution() -> None:
    listed = tomllib.loads((COMPAT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert sorted(listed) == sorted(each.parent.name for each in COMPAT.glob("*/__init__.py"))
