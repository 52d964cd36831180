"""container/run.py: the older agent's verbs, old and new, one after another with real namespaces, and what they refuse."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from container.network import with_agents
from container.run import main
from tumpline.lab.read import loads
from tumpline.lab.state import names_up
from tumpline.testing.leftovers import Leftovers, processes_of

ROOT = Path(__file__).parent.parent.parent
RUN = ROOT / "compat" / "container" / "run.py"
EXAMPLE = ROOT / "examples" / "older-four-nodes.yaml"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _runtime_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    before = Leftovers.now()
    yield
    after = Leftovers.now()
    assert (after.links, after.tables, after.mounts) == (before.links, before.tables, before.mounts)
    assert names_up() == []
    assert not [line for line in processes_of("") if str(directory) in line]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """The program as it is called: a process of its own. Whatever a test did, its laboratory ends with it."""

    def call(*words: str, code: int = 0, config: Path = EXAMPLE) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(RUN), "--config", str(config), "--stage-dir", str(tmp_path / "stage"), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    yield call
    call("act", "delete")


# ---- with namespaces ------------------------------------------------------------------------------------------------


def test_the_old_verbs_and_exec(run: Run, tmp_path: Path) -> None:
    done = run("delete", "prep", "start")
    assert "WARNING" in done.stderr
    assert "nodes.harbour.config.apps.zeroconf: discovery is not there yet" in done.stderr
    (name,) = names_up()
    assert name.startswith("older-four-nodes-")
    assert "1 received" in run("exec", "hut", "--", "tumpline", "ping", "dtn://harbour/", "--count", "1").stdout
    assert run("exec", "hut", "sh", "-c", "hostname; exit 7", code=7).stdout == "hut\n"
    assert "agent_started" in run("exec", "hut", "--", "journalctl", "--unit", "dtn-bp-agent@node").stdout
    assert run("exec", "hut", "--", "systemctl", "is-active", "dtn-bp-agent@node").stdout == "active\n"
    assert "there are harbour, lighthouse, depot, hut" in run("exec", "moon", "--", "true", code=2).stderr
    assert "is up already" in run("start").stderr
    run("stop")
    assert names_up() == []
    assert "agent_started" in run("exec", "hut", "--", "journalctl", "-f").stdout
    assert run("exec", "hut", "--", "systemctl", "is-active", "x", code=3).stdout == "inactive\n"
    assert "is not up; start it first" in run("exec", "hut", "--", "true", code=4).stderr


def test_the_new_verbs_in_one_go(run: Run, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    run("act", "pkigen", "build", "create")
    assert (stage / "depot" / "keys" / "node-sign.pem").exists()
    run("--log-level", "warning", "act", "start", "ready", "rate_ctrl")
    assert "rate 200Kbit" in run("exec", "lighthouse", "--", "tc", "qdisc", "show", "dev", "shore").stdout
    run("exec", "lighthouse", "--", "tumpline", "ping", "dtn://hut/", "--count", "1")
    assert "SERVER_TRAFFIC_SECRET_0" in (stage / "lighthouse" / "log" / "tlskeylog").read_text()
    run("act", "stop", "stop", "delete", "delete")
    assert not (stage / "compose.yaml").exists()
    assert (stage / "hut" / "log" / "hut.log").exists()


def test_logs_are_followed_until_the_end(run: Run, tmp_path: Path) -> None:
    run("act", "pkigen", "create", "start")
    argv = [sys.executable, str(RUN), "--config", str(EXAMPLE), "--stage-dir", str(tmp_path / "stage")]
    argv += ["exec", "depot", "--", "journalctl", "-f"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert "agent_started" in follower.stdout.readline()
        run("act", "stop")
        assert follower.wait(20) == 0


# ---- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "what is to be done? Write act"),
        (["act"], "act: write one of pkigen"),
        (["act", "pkigen", "bild"], "bild: write one of pkigen, build"),
        (["prep", "ready"], "ready: write one of delete, prep, start, stop; the others follow the word act"),
        (["exec"], "in which node? Write exec NODE -- COMMAND"),
        (["act", "start"], "has no lab.yaml; make it first"),
        (["act", "create"], "has no keys for harbour; make them first: pkigen"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(EXAMPLE), "--stage-dir", str(tmp_path), *words]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_exit_codes_tell_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = ["--stage-dir", str(tmp_path)]
    assert main(["--config", str(tmp_path / "no.yaml"), *stage, "act", "start"]) == 2
    assert main(["--config", str(EXAMPLE), *stage, "act", "ready"]) == 4
    assert main(["--config", str(EXAMPLE), *stage, "act", "check_sand"]) == 1
    assert main(["--config", str(EXAMPLE), "--stage-dir", "/run/stage", "act", "pkigen"]) == 2
    said = capsys.readouterr().err
    assert "SAND is not there yet" in said
    assert "/run of their own" in said


def test_nodes_of_which_nothing_is_said_have_agents_too() -> None:
    text = "nets: {a: {subnet4: 10.1.0.0/24}}\nnodes: {n: {nets: [a]}, m: {nets: [a]}}\n"
    assert all(node.agent is None for node in loads(text).nodes.values())
    assert all(node.agent is not None for node in loads(with_agents(text)).nodes.values())
    assert with_agents(EXAMPLE.read_text()) == EXAMPLE.read_text()
    assert with_agents("nodes: [") == "nodes: ["
    own = text.replace("nets: {a", "name: mine\nnets: {a")
    assert with_agents(own) == own


# ---- with an engine ---------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A command that writes down how it was called; a file `fail` makes it fail."""
    log, script = tmp_path / "calls", tmp_path / "engine"
    script.write_text(f'#!/bin/sh\necho "$@" >> {log}\n[ ! -e {tmp_path}/fail ]\n')
    script.chmod(0o755)
    monkeypatch.setenv("DOCKER", f"env A=b {script}")

    def calls() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        prefix = f"compose -p demo -f {tmp_path}/stage/compose.yaml "
        assert all(line.startswith(prefix) for line in lines)
        return [line.removeprefix(prefix) for line in lines]

    return calls


def test_an_engine_is_called_as_docker_says(tmp_path: Path, engine: Callable[[], list[str]]) -> None:
    words = ["--config", str(EXAMPLE), "--stage-dir", str(tmp_path / "stage"), "--engine", "--image-no-cache"]
    assert main([*words, "act", "pkigen", "build", "create", "start", "ready"]) == 0
    nodes = ("harbour", "lighthouse", "depot", "hut")
    polls = [f"exec -T {node} tumpline status --json" for node in nodes]
    assert engine() == ["build --no-cache", "up --no-start --remove-orphans", "start", *polls]
    build = yaml.safe_load((tmp_path / "stage" / "compose.yaml").read_text())["services"]["hut"]["build"]
    assert build["additional_contexts"] == {"source": str(ROOT)}
    assert main([*words, "act", "rate_ctrl", "stop"]) == 0
    *limits, stop = engine()
    assert [line.split()[2] for line in limits] == list(nodes)
    assert all("tbf rate 200000bit" in line for line in limits)
    assert stop == "stop"
    assert main([*words, "exec", "hut", "--", "ls", "/"]) == 0
    assert engine()[0].endswith("hut ls /")
    assert main([*words, "act", "delete"]) == 0
    assert engine() == ["down --volumes --remove-orphans"]
    assert main([*words, "act", "delete"]) == 0
    assert engine() == []


def test_an_engine_that_fails_is_told(
    tmp_path: Path,
    engine: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--config", str(EXAMPLE), "--stage-dir", str(tmp_path / "stage"), "--engine", "act"]
    assert main([*words, "start"]) == 2
    (tmp_path / "fail").touch()
    assert main([*words, "pkigen", "build"]) == 1
    assert "compose build failed with exit code 1" in capsys.readouterr().err
    assert engine() == ["build"]
    monkeypatch.setenv("DOCKER", str(tmp_path / "nowhere"))
    assert main([*words, "start"]) == 1
    assert "name another engine: DOCKER=podman" in capsys.readouterr().err


def test_it_is_a_program(tmp_path: Path) -> None:
    assert os.access(RUN, os.X_OK)
    done = subprocess.run([sys.executable, RUN, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "act ACTION..." in done.stdout
