"""Benches of durable stores run on a disk, and say which."""

import json
import os
import tempfile
from pathlib import Path

import pytest

from tumpline.bench import node_hop, store
from tumpline.bench.framework import disk
from tumpline.bench.framework.api import Figure
from tumpline.errors import ConfigError
from tumpline.ui.cli.app import run

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /dev/shm rw,nosuid shared:4 master:1 - tmpfs tmpfs rw,size=64k
31 22 0:27 / /mnt/my\\040disk rw - xfs /dev/vdb rw
32 31 0:28 / /mnt/my\\040disk rw - btrfs /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/tmp/x", "ext4"),
        ("/dev/shm", "tmpfs"),
        ("/dev/shm/x/y", "tmpfs"),
        ("/dev/shmem", "ext4"),
        ("/mnt/my disk/x", "btrfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert disk.file_system(Path(path), MOUNTS) == kind


def test_no_mounts_are_told() -> None:
    assert disk.file_system(Path("/tmp"), "") == "unknown"


def on(monkeypatch: pytest.MonkeyPatch, directory: Path, kind: str) -> None:
    """Make it look as if the directory lay on such a file system."""
    mounts = directory / "mounts"
    mounts.write_text(f"22 1 254:0 / / rw,relatime - {kind} /dev/vda rw\n")
    monkeypatch.setattr(disk, "_MOUNTS", mounts)


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
@pytest.mark.parametrize("bench", ["store", "node-hop"])
def test_memory_is_refused_with_the_remedy(
    bench: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(monkeypatch, tmp_path, kind)
    assert run(["bench", bench, "--quick", "--directory", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert kind in told
    assert "--directory DIR" in told


def test_the_disk_stands_beside_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(monkeypatch, tmp_path, "ext4")
    used: list[str] = []

    def bench(_effort: object) -> dict[str, Figure]:
        used.extend((tempfile.gettempdir(), os.environ["TMPDIR"]))
        return {}

    before = tempfile.gettempdir(), os.environ.get("TMPDIR")
    monkeypatch.setattr(store, "SPEC", store.SPEC._replace(run=bench))
    assert run(["bench", "store", "--json", "--directory", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)["disk"]
    assert (report["directory"], report["file_system"]) == (str(tmp_path), "ext4")
    assert 0 < report["fdatasync_median_ms"] < 10_000
    assert used == [str(tmp_path)] * 2, "the bench or its programs work elsewhere"
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before
    assert run(["bench", "store", "--directory", str(tmp_path)]) == 0
    assert f"{tmp_path} on ext4, fdatasync " in capsys.readouterr().out


def test_only_benches_of_durable_stores_need_a_disk() -> None:
    assert store.SPEC.durable
    assert node_hop.SPEC.durable


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose another --directory"), disk.working_in(tmp_path / "missing"):
        pass
