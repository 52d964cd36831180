"""A state directory is private and has one holder."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tumpline.errors import StateError
from tumpline.node.state import StateDir, make_private


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with StateDir.hold(tmp_path / "deep" / "state") as state:
        assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
        assert stat.S_IMODE(state.directory("store").stat().st_mode) == 0o700
        assert state.directory("store") == tmp_path / "deep" / "state" / "store"


def test_a_second_holder_is_told_the_pid(tmp_path: Path) -> None:
    with StateDir.hold(tmp_path, "ground"), pytest.raises(StateError) as raised:
        StateDir.hold(tmp_path, "ground")
    assert f"held by the agent with pid {os.getpid()};" in str(raised.value)
    assert "`tumpline down --node ground` or give this one its own state_dir" in str(raised.value)
    assert raised.value.exit_code == 2


def test_another_process_is_a_holder_until_it_ends(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from tumpline.node.state import StateDir\n"
        "state = StateDir.hold(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=f"pid {other.pid};"):
            StateDir.hold(tmp_path)
        other.kill()
        other.wait(10)
    StateDir.hold(tmp_path).release()


def test_it_can_be_held_again_after_release(tmp_path: Path) -> None:
    first = StateDir.hold(tmp_path)
    first.release()
    first.release()
    StateDir.hold(tmp_path).release()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="is not a directory; remove it"):
        make_private(tmp_path / "file")
    with pytest.raises(StateError, match=r"cannot be made: .*choose another state_dir"):
        make_private(tmp_path / "file" / "below")


def test_a_lock_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StateError, match="cannot be written: is a directory"):
        StateDir.hold(tmp_path)


def test_a_directory_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may do everything
    with pytest.raises(StateError, match="cannot be read and written; `chown"):
        make_private(tmp_path)
