"""Real agents from the command line: up, down, what goes wrong before that."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tumpline.ui.cli.detach import told_ready

CONFIG = """\
[node]
id = "dtn://ground/"
state_dir = "state"

[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"
"""


@pytest.fixture
def config(own_directories: Path, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ground.toml"
    path.write_text(CONFIG)
    yield path
    lock = tmp_path / "state" / "lock"
    if (own_directories / "XDG_RUNTIME_DIR" / "tumpline" / "ground.sock").exists() and lock.exists():
        os.kill(int(lock.read_text()), signal.SIGKILL)  # only if a test has failed before `down`


def _tumpline(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tumpline", *arguments], capture_output=True, text=True, timeout=60)


def test_detached_until_down(config: Path, tmp_path: Path) -> None:
    up = _tumpline("up", "--config", str(config), "--detach", "--json")
    assert up.returncode == 0, up.stderr
    assert '"event":"ready"' in up.stdout
    status = _tumpline("status", "--node", "ground", "--json")
    assert '"node_id":"dtn://ground/"' in status.stdout
    second = _tumpline("up", "--config", str(config), "--detach")
    assert second.returncode == 2
    assert "is held by the agent with pid" in second.stderr
    down = _tumpline("down", "--node", str(tmp_path / "state"))
    assert (down.returncode, down.stdout) == (0, "dtn://ground/ is down\n")
    assert _tumpline("status", "--node", "ground").returncode == 4
    assert "agent_stopped" in (tmp_path / "state" / "agent.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_in_the_foreground_until_a_signal(number: signal.Signals, config: Path) -> None:
    command = [sys.executable, "-m", "tumpline", "up", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "dtn://ground/ is up\n"
        process.send_signal(number)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_mistakes_are_told_before_anything_runs(detach: list[str], config: Path) -> None:
    config.write_text(CONFIG.replace("state_dir", "state_dri").replace("127.0.0.1:0", "127.0.0.1:99999"))
    up = _tumpline("up", "--config", str(config), *detach)
    assert up.returncode == 2
    assert up.stdout == ""
    assert f"{config}:3: " in up.stderr
    assert "state_dir" in up.stderr
    assert f"{config}:7: " in up.stderr
    assert "Traceback" not in up.stderr


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_port_in_use_is_told(detach: list[str], config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        up = _tumpline("up", "--config", str(config), *detach)
    assert up.returncode != 0
    assert f"{port}" in up.stderr
    assert "Traceback" not in up.stderr
    assert up.stdout == ""


def test_up_without_configuration(tumpline: Any) -> None:
    said = tumpline("up")
    assert said.code == 2
    assert "config init" in said.err


def test_up_with_several_configurations(own_directories: Path, tumpline: Any) -> None:
    directory = own_directories / "XDG_CONFIG_HOME" / "tumpline"
    directory.mkdir()
    for name in ("a", "b"):
        (directory / f"{name}.toml").write_text(CONFIG)
    said = tumpline("up")
    assert said.code == 2
    assert "several configurations" in said.err


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not told_ready("up")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert told_ready("dtn://ground/ is up")
        manager.settimeout(5)
        told = manager.recv(1000).decode().splitlines()
    assert told[:2] == ["READY=1", "STATUS=dtn://ground/ is up"]


def test_doctor(tumpline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tumpline("doctor", "--state-dir", str(tmp_path), "--json")
    assert said.code == 0, said.out
    assert said.value["ok"]
    assert {"Python", "clock", "open files", "agent"} <= {check["name"] for check in said.value["checks"]}
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 8, 0))
    said = tumpline("doctor")
    assert said.code == 1
    assert "MISSING   SQLite" in said.out
    assert "fix: " in said.out
