"""Files that an installation takes: what systemd and dbus-daemon say to them, and whom the policy lets be what."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.drivers.dbus import BusConnection

SHARE = Path(__file__).parent.parent.parent / "share"
POLICY = SHARE / "dbus-1" / "system.d" / "org.ietf.dtn.conf"
# As dbus-daemon's own system.conf has it: nobody owns names or calls methods unless a policy says so.
SYSTEM_BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
  </policy>
  <include>{policy}</include>
  <policy context="mandatory"><allow own="{anybodys}"/></policy>
</busconfig>
"""
STRANGER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] if os.geteuid() == 0 else []
# A name that the policy tells who may talk to, and that this test's user may own, whoever that is.
AGENT = "org.ietf.dtn.trial.bp"
DENIED = "org.freedesktop.DBus.Error.AccessDenied"
REFUSED = (
    "org.ietf.dtn.bp.Agent.stop",
    "org.ietf.dtn.bp.Agent.cl_attach",
    "org.ietf.dtn.bp.admin.send_acme_request",
    "org.ietf.dtn.tcpcl.Agent.connect",
    "org.ietf.dtn.tcpcl.Contact.send_bundle_data",
    "org.ietf.dtn.udpcl.Agent.send_bundle_data",
    "org.freedesktop.DBus.Properties.Set",
)
ROLES = ("tcpcl", "udpcl", "bp")


@pytest.fixture
def bus(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[str]:
    socket = tmp_path_factory.getbasetemp().parent / f"bus-{os.getpid()}"
    config = tmp_path / "system.conf"
    config.write_text(SYSTEM_BUS.format(socket=socket, policy=POLICY, anybodys=AGENT))
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith("unix:path=")
        for parent in (socket, *list(socket.parents)[:-2]):
            if os.geteuid() == 0:
                parent.chmod(parent.stat().st_mode | 0o011)  # strangers come as far as the socket
        try:
            yield f"unix:path={socket}"
        finally:
            daemon.terminate()
            socket.unlink(missing_ok=True)


def call(bus: str, who: list[str], destination: str, member: str, *arguments: str) -> str:
    """What comes back: the answer, or the error."""
    command = [*who, "dbus-send", f"--bus={bus}", "--print-reply", f"--dest={destination}", "/x", member, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


def own(bus: str, who: list[str], name: str) -> str:
    return call(bus, who, "org.freedesktop.DBus", "org.freedesktop.DBus.RequestName", f"string:{name}", "uint32:4")


@pytest.mark.parametrize("role", ROLES)
def test_a_stranger_cannot_own_the_names_of_agents(bus: str, role: str) -> None:
    told = own(bus, STRANGER, f"org.ietf.dtn.node.{role}")
    assert DENIED in told
    assert f'is not allowed to own the service "org.ietf.dtn.node.{role}"' in told


async def test_strangers_may_look_and_ping_and_nothing_else(bus: str) -> None:
    connection = await BusConnection.open(bus)
    await connection.request_name(AGENT)
    try:
        for allowed in ("org.ietf.dtn.bp.Agent.ping", "org.freedesktop.DBus.Introspectable.Introspect"):
            assert DENIED not in await asyncio.to_thread(call, bus, STRANGER, AGENT, allowed), allowed
        for refused in REFUSED:
            assert DENIED in await asyncio.to_thread(call, bus, STRANGER, AGENT, refused), refused
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", ["user", "system"])
def test_systemd_takes_the_units(kind: str, tmp_path: Path) -> None:
    units = sorted((SHARE / "systemd" / kind).glob("*.service"))
    assert {unit.name for unit in units} == {"tumpline@.service", *(f"dtn-{role}-agent@.service" for role in ROLES)}
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    command = ["systemd-analyze", f"--{kind}", "--man=no", "verify", *map(str, units)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    about = [line for line in done.stderr.splitlines() if any(unit.name.partition("@")[0] in line for unit in units)]
    assert (done.returncode, about) == (0, [])


def test_activation_names_units_that_are_there() -> None:
    for role in ROLES:
        lines = (SHARE / "dbus-1" / "system-services" / f"org.ietf.dtn.node.{role}.service").read_text().splitlines()
        said = dict(line.split("=", 1) for line in lines if "=" in line)
        assert said["Name"] == f"org.ietf.dtn.node.{role}"
        unit = said["SystemdService"].replace("@node", "@")
        assert f"BusName=org.ietf.dtn.%i.{role}" in (SHARE / "systemd" / "system" / unit).read_text()
        session = (SHARE / "dbus-1" / "services" / f"dtn.node.{role}.service").read_text()
        assert f"SystemdService=dtn-{role}-agent@node.service" in session
        assert f"BusName=dtn.%i.{role}" in (SHARE / "systemd" / "user" / unit).read_text()


@pytest.mark.parametrize("role", ROLES)
def test_the_session_bus_starts_an_agent_at_the_first_call(role: str, tmp_path: Path) -> None:
    """A stand-in for the agent writes down how it was called."""
    agent, home = tmp_path / f"{role}-agent", tmp_path / "home"
    agent.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$HOME/called"; exit 1\n')
    agent.chmod(0o755)
    home.mkdir()
    services = tmp_path / "data" / "dbus-1" / "services"
    services.mkdir(parents=True)
    (services / f"dtn.node.{role}.service").write_text((SHARE / f"dbus-1/services/dtn.node.{role}.service").read_text())
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_DATA_DIRS": str(tmp_path / "data"),
    }
    call = ["dbus-run-session", "--", "dbus-send", "--print-reply", f"--dest=dtn.node.{role}", "/x", "x.y.z"]
    subprocess.run(call, env=environment, capture_output=True, timeout=60, check=False)
    said = (home / "called").read_text().splitlines()
    assert said == [f"--config-file={home}/.config/dtn/node.yaml", f"--bus-service=dtn.node.{role}"]
