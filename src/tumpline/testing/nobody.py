"""Runs Python as a user without rights, though it may be installed where only root may look."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tumpline
from tumpline.lab.holder import environment

NOBODY = 65534
_DROP = [
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
]


def as_nobody(argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` without rights. Who has none already runs it as it is.

    A user namespace takes away even the right to look that could be left to the user. So the directories that Python and
    tumpline need are shown again, in a mount namespace of the command's own, below empty ones that everybody may enter.
    """
    if os.geteuid() != 0:
        return list(argv)
    needed = {Path(sys.base_prefix), Path(sys.prefix), Path(tumpline.__file__).parents[2]}
    lines = ["set -e", "mount -t tmpfs tmpfs /mnt"]
    for number, path in enumerate(sorted(needed)):
        lines += [f"mkdir /mnt/{number}", f"mount --rbind {shlex.quote(str(path))} /mnt/{number}"]
    for closed in sorted(_closed(needed)):
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}")
    for number, path in enumerate(sorted(needed)):
        if _closed([path]):
            lines += [f"mkdir -p {shlex.quote(str(path))}", f"mount --rbind /mnt/{number} {shlex.quote(str(path))}"]
    lines += ["umount -l /mnt", 'exec "$@"']
    return ["unshare", "--mount", "sh", "-c", "\n".join(lines), "sh", *_DROP, *argv]


def run_as_nobody(argv: Sequence[str], runtime_dir: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Its output, captured."""
    env = environment() | {"XDG_RUNTIME_DIR": str(runtime_dir), "HOME": str(runtime_dir)}
    return subprocess.run(
        as_nobody(argv), env=env, capture_output=True, text=True, timeout=timeout_s, check=False, cwd="/"
    )


@contextmanager
def directory_of_nobody() -> Iterator[Path]:
    """A runtime directory that this user may use."""
    with tempfile.TemporaryDirectory(prefix="tl-", dir="/tmp") as name:
        if not os.geteuid():
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def _closed(paths: Iterable[Path]) -> set[Path]:
    """The first directory above each that not everybody may enter, where there is one."""
    found = set()
    for path in paths:
        above = reversed(path.parents)
        found |= set([each for each in above if not each.stat().st_mode & 0o001][:1])
    return found
