"""What laboratories could leave behind on a machine, to compare before and after."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from tumpline.lab.holder import environment
from tumpline.lab.state import labs_dir


class Leftovers(NamedTuple):
    """Everything of a kind that a laboratory makes, anywhere on the machine."""

    links: frozenset[str]
    tables: str
    files: frozenset[str]
    mounts: frozenset[str]

    @classmethod
    def now(cls) -> Leftovers:
        """As it is."""
        return cls(_lines("ip", "-o", "link"), _run("nft", "list", "ruleset"), _files(), _mounts())


def processes_of(name: str) -> list[str]:
    """Command lines of processes that name a laboratory's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, NotADirectoryError):
            continue
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and f"labs/{name}" in line:
            found.append(line)
    return found


def processes_under(runtime_dir: Path) -> list[str]:
    """Processes, and so namespaces, of laboratories of this runtime directory: all of them inherit where it is."""
    mark = f"XDG_RUNTIME_DIR={runtime_dir}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended meanwhile
    return found


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), check=False)
    return done.stdout


def _lines(*argv: str) -> frozenset[str]:
    return frozenset(line.split()[1] for line in _run(*argv).splitlines())


def _files() -> frozenset[str]:
    directory = labs_dir()
    return frozenset(map(str, directory.rglob("*"))) if directory.exists() else frozenset()


def _mounts() -> frozenset[str]:
    return frozenset(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
