"""The demonstration is what it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from tumpline.ui.cli import demo


@pytest.mark.slow
def test_a_file_of_ones_own(tmp_path: Path, tumpline: Any) -> None:
    (tmp_path / "photo.jpg").write_bytes(bytes(range(256)) * 1000)
    said = tumpline("demo", "--file", str(tmp_path / "photo.jpg"), "--json")
    assert said.code == 0, said.err
    steps = [step["step"] for step in json.loads(said.out)["steps"]]
    assert steps[-3:] == ["kept by the relay", "contact opened", "delivered to the rover"]
    assert "photo.jpg" in said.value["steps"][-1]["seen"]


@pytest.mark.slow
def test_a_failure_shows_the_logs_and_leaves_nothing(
    tmp_path: Path, tumpline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "sha256_of", lambda path: str(path))  # no two files are equal
    monkeypatch.setattr(demo, "FILE_OCTETS", 1 << 20)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    said = tumpline("demo")
    assert said.code == 1
    assert "the delivered file differs" in said.err
    assert "rover: " in said.err
    assert list(tmp_path.iterdir()) == []
