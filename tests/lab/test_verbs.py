"""`tumpline lab` as a person types it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.lab import Lab
from tumpline.lab.api import unique
from tumpline.lab.holder import environment
from tumpline.lab.state import names_up

pytestmark = pytest.mark.usefixtures("nothing_left")

FILE = """
name: otherwise   # than it is called when it is up
nets:
  wire: {subnet4: 10.0.1.0/24, impair: {}}
  aside: {subnet4: 10.0.2.0/24}
nodes:
  ground: {nets: [wire], agent: {connect: [rover]}}
  rover: {nets: [wire], agent: {}}
  lonely: {nets: [aside], run: [["true"]]}
"""


def lab(*argv: str, code: int = 0) -> str:
    """What it printed, results and diagnostics."""
    command = [sys.executable, "-m", "tumpline", "lab", *argv]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def name(tmp_path: Path) -> Iterator[str]:
    """A laboratory that is up."""
    file, chosen = tmp_path / "small.yaml", unique("small")
    file.write_text(FILE)
    told = lab("up", str(file), "--name", chosen)
    assert "ground  wire 10.0.1.1" in told
    assert f"end it: tumpline lab down {chosen}" in told
    yield chosen
    if chosen in names_up():
        lab("down", chosen)


def test_it_is_looked_into_and_ended(name: str) -> None:
    assert "is up already; end it with `tumpline lab down" in lab("up", "two-nodes", "--name", name, code=2)
    assert lab("exec", "ground", "--", "sh", "-c", "hostname; exit 7", code=7) == "ground\n"
    assert "br-wire" in lab("exec", "switch", "--", "ip", "-o", "link")
    assert "1 received" in lab("exec", "ground", "--", "tumpline", "ping", "dtn://rover/", "--count", "1")
    assert json.loads(lab("exec", "rover", "--json", "--", "hostname"))["stdout"] == "rover\n"
    assert "rover: " in lab("logs", "rover")
    assert (name, "up") in [tuple(line.split()[:2]) for line in lab("list").splitlines()]
    assert lab("down") == f"{name} is down\n"
    assert "no laboratory is up" in lab("status", code=1)


def test_status_shows_what_runs_and_what_has_died(name: str) -> None:
    while (told := json.loads(lab("status", "--json", code=1)))["programs"][0]["alive"]:
        pass  # `true` ends soon
    assert [(each["node"], each["name"], each["alive"]) for each in told["programs"]] == [
        ("lonely", "true", False),
        ("ground", "agent", True),
        ("rover", "agent", True),
    ]
    assert told["nodes"]["rover"]["addresses"] == {"wire": ["10.0.1.2"]}
    assert "true ended (see " in lab("status", name, code=1)


def test_a_net_is_captured(name: str, tmp_path: Path) -> None:
    file = tmp_path / "wire.pcapng"
    command = [sys.executable, "-m", "tumpline", "lab", "capture", "wire", "-w", str(file)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr:
        while not process.stderr.readline().startswith("File:"):
            assert process.poll() is None
        # It says that it captures a little before it does: what is looked for is sent until it is seen.
        while b"\x20\x21\x22\x23" not in file.read_bytes():  # in the pattern that ping fills its packets with
            lab("exec", "ground", "--", "ping", "-c", "1", "rover")
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert "did you mean 'wire'?" in lab("capture", "wir", "-w", str(file), code=1)


def test_a_net_is_impaired_while_it_is_up(name: str) -> None:
    ping = ["exec", "ground", "--", "ping", "-c", "1", "-W", "1", "rover"]
    lab("impair", "ground:wire", "--loss", "100%")
    lab(*ping, code=1)
    assert "nothing befalls frames" in lab("impair", "wire", "--off")
    lab(*ping)
    assert "say what shall befall frames" in lab("impair", "wire", code=2)
    assert "'much' is no share" in lab("impair", "wire", "--loss", "much", code=1)
    assert "nothing stands between; write `impair: {}` there" in lab("impair", "aside", "--delay", "1ms", code=1)


def test_what_is_wrong_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    assert "there is no node 'groud'" in lab("exec", "groud", "--", "true", code=1)
    assert "there is no node 'groud'; did you mean 'ground'?" in lab("logs", "groud", code=1)
    assert "no laboratory 'moon' is up; up: small-" in lab("status", "moon", code=4)
    assert "cannot be read" in lab("up", str(tmp_path / "none.yaml"), code=2)
    assert "mars is a simulation: nothing can be up; `tumpline lab test` runs it" in lab("up", "mars", code=2)
    other = unique("other")
    lab("up", "two-nodes", "--name", other, "-q")
    assert "several laboratories are up" in lab("exec", "ground", "--", "true", code=2)
    assert lab("exec", "ground", "--lab", other, "--", "hostname") == "ground\n"
    holder = Lab.find(other).holder
    os.kill(holder.pid, signal.SIGKILL)
    while holder.alive:
        os.sched_yield()
    assert lab("exec", "ground", "--", "hostname") == "ground\n"  # of the one that has not crashed
    assert sorted(lab("down", "--all").splitlines()) == sorted([f"{name} is down", f"{other} is down"])
