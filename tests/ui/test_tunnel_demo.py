"""`tumpline tunnel demo` as a newcomer starts it: it ends well, leaves a capture, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tumpline.lab.holder import environment
from tumpline.testing.leftovers import processes_under
from tumpline.testing.nobody import as_nobody, directory_of_nobody

DEMO = [sys.executable, "-m", "tumpline", "tunnel", "demo", "--json"]
# As udev has it: everybody may open the device, and make interfaces in networks of their own.
EVERYBODYS_TUN = """
mount -t tmpfs tmpfs /mnt && mknod -m 666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun && umount -l /mnt
exec "$@"
"""


def show(command: Sequence[str], directory: Path) -> None:
    """Run it there, and look at what it leaves."""
    env = environment() | {"XDG_RUNTIME_DIR": str(directory), "HOME": str(directory)}
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    steps = [step["step"] for step in result["steps"]]
    assert steps[-2:] == ["ping bbbb::2 at alice", "GET coap://[bbbb::2]/greeting at alice"]
    capture = directory / result["capture"]
    shown = subprocess.run(
        ["tshark", "-r", str(capture), "-T", "fields", "-e", "_ws.col.Protocol"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert {"ICMPv6", "CoAP"} <= set(shown.stdout.split())
    assert processes_under(directory) == []


@pytest.mark.slow
def test_the_demonstration(tmp_path: Path) -> None:
    show(DEMO, tmp_path)


@pytest.mark.slow
def test_the_demonstration_without_rights() -> None:
    with directory_of_nobody() as directory:
        show(["unshare", "--mount", "sh", "-ec", EVERYBODYS_TUN, "sh", *as_nobody(DEMO)], directory)
