"""A runtime directory of each test's own: its laboratories are nobody else's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.testing.leftovers import Leftovers, processes_under


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


@pytest.fixture
def nothing_left(runtime_dir: Path) -> Iterator[None]:
    """What the test made is gone when it ends. (Other tests may run beside it: only links, files and processes that can be
    told from theirs are compared.)"""
    before = Leftovers.now()
    yield
    after = Leftovers.now()
    assert after.links == before.links
    assert after.tables == before.tables
    assert after.mounts == before.mounts
    assert after.files == frozenset()
    assert processes_under(runtime_dir) == []
