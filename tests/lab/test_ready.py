"""Every ready laboratory holds what its file expects, by the command that people use; nothing is left of it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tumpline.lab.api import unique
from tumpline.lab.holder import environment
from tumpline.lab.read import load
from tumpline.lab.ready import ready_file, ready_names
from tumpline.lab.state import labs_dir
from tumpline.testing.nobody import directory_of_nobody, run_as_nobody

TUMPLINE = [sys.executable, "-m", "tumpline"]
MOST_S = 100.0
# Their figures need the processor for themselves.
MEASURED = {"moon", "ground-relay-rover", "triangle-with-gaps", "plugtest"}


def trial(name: str) -> list[str]:
    return [*TUMPLINE, "lab", "test", name, "--name", unique(name), "--json"]


def assert_good(done: subprocess.CompletedProcess[str], name: str) -> None:
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    (laboratory,) = found["laboratories"]
    wrong = [
        f"{row['what']}: {row['measured']}, expected {row['expected']}" for row in laboratory["rows"] if not row["ok"]
    ]
    assert not wrong, "\n".join(wrong)
    file = ready_file(name)
    assert file is not None
    assert len(laboratory["rows"]) == len(load(file).expect) >= 4
    assert (found["ok"], done.returncode) == (True, 0)


def test_all_that_were_promised_are_there() -> None:
    promised = {"two-nodes", "moon", "mars", "nat-matrix", "dtn-four", "plugtest"}
    assert promised | {"ground-relay-rover", "triangle-with-gaps"} <= set(ready_names())
    assert all(load(file).summary for name in ready_names() if (file := ready_file(name)) is not None)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.measured] if name in MEASURED else []) for name in ready_names()]
)
def test_it_holds_what_it_expects(name: str) -> None:
    done = subprocess.run(trial(name), env=environment(), capture_output=True, text=True, timeout=MOST_S, check=False)
    assert_good(done, name)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.measured
@pytest.mark.parametrize("name", ["two-nodes", "ground-relay-rover"])
def test_it_does_without_root(name: str) -> None:
    with directory_of_nobody() as runtime:
        assert_good(run_as_nobody(trial(name), runtime, MOST_S), name)
        assert [path for path in runtime.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_it_leaves_nothing_behind(number: signal.Signals) -> None:
    argv = [*TUMPLINE, "lab", "test", "triangle-with-gaps", "-v"]
    process = subprocess.Popen(argv, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    with process.stderr:
        assert "not delivered" in process.stderr.readline()  # it is up, and the next check waits
        process.send_signal(number)
        assert process.wait(30) == 130
    assert not any(path.is_dir() for path in labs_dir().iterdir())


@pytest.mark.usefixtures("nothing_left")
def test_what_does_not_hold_is_said_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    argv = [*TUMPLINE, "lab", "test", str(file), "--json"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=MOST_S, check=False)
    assert done.returncode == 1
    (laboratory,) = json.loads(done.stdout)["laboratories"]
    assert [row["ok"] for row in laboratory["rows"]] == [False] * len(load(file).expect), done.stdout
    measured = [row["measured"] for row in laboratory["rows"]]
    assert "no answer" in measured
    assert any("by ground rover" in text for text in measured)
    assert "exit code 7, seven" in measured


# Not one of these is so.
WRONG = """
nets:
  wire: {subnet4: 10.0.1.0/24, impair: {rate: 5 Mbit/s}}
  aside: {subnet4: 10.0.2.0/24}
nodes:
  ground: {nets: [wire], agent: {connect: [rover]}}
  rover: {nets: [wire], agent: {}}
  lonely: {nets: [aside], agent: {connect: [rover]}}
expect:
  - reach: {from: ground, to: lonely, within: 1 s}
  - unreachable: {from: ground, to: rover}
  - rtt: {from: ground, to: rover, between_ms: [500, 600], count: 2}
  - throughput: {from: ground, to: rover, rate: 10 Mbit/s, duration: 1 s}
  - ping: {from: ground, to: lonely, within: 1 s}
  - ping: {from: ground, to: rover, rtt_ms: [5000, 6000]}
  - deliver: {from: ground, to: lonely, within: 1 s}
  - deliver: {from: ground, to: rover, not_before: 10 s}
  - deliver: {from: ground, to: rover, within: 3 s, route: [ground, lonely, rover]}
  - not_delivered: {from: ground, to: rover, for: 2 s}
  - peers: {node: ground, up: [lonely], within: 1 s}
  - kept: {node: rover, bundles: 100, within: 1 s}
  - nat: {from: ground, server: rover, mapping: endpoint-independent}
  - run: {node: rover, argv: [sh, -c, "echo seven; exit 7"]}
  - run: {node: rover, argv: [echo, six], output: seven}
  - run: {node: rover, argv: [sleep, "10"], within: 0.5 s}
  - capture: {net: aside, from: ground, to: rover, within: 2 s}
"""
