"""Handshakes over a bad path, in virtual time (how: lossy_handshakes.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), Path("libfaketime-is-not-installed"))
SCRIPT = Path(__file__).with_name("lossy_handshakes.py")


def _handshakes(directory: Path, loss: float, count: int) -> list[dict[str, Any]]:
    assert LIBRARY.exists(), "apt-get install libfaketime"
    clock = directory / "clock"
    clock.write_text("+0")
    environment = os.environ | {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    command = [sys.executable, str(SCRIPT), str(directory), str(loss), str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("loss", "most_s"), [(0.0, 2.0), (0.1, 20.0)])
def test_loss_reordering_and_doubles_only_delay_a_handshake(tmp_path: Path, loss: float, most_s: float) -> None:
    found = _handshakes(tmp_path, loss, 100)
    assert len(found) == 100
    assert all(each["established"] for each in found), found
    assert max(each["seconds"] for each in found) <= most_s


def test_a_path_that_loses_a_third_ends_some_in_time_and_says_why(tmp_path: Path) -> None:
    found = _handshakes(tmp_path, 0.3, 100)
    failed = [each for each in found if not each["established"]]
    assert len(failed) < 30
    assert max(each["seconds"] for each in found) <= 40.0, "20 s for each side"
    for each in failed:
        assert "no answer to the DTLS handshake within 20 s" in each["failures"]


def test_a_path_that_carries_nothing(tmp_path: Path) -> None:
    for each in _handshakes(tmp_path, 1.0, 3):
        assert not each["established"]
        assert each["seconds"] == pytest.approx(20.0, abs=0.1)
