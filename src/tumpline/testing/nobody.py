"""Runs a command as a user without any right, even where the interpreter lies in a directory of root's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tumpline
from tumpline.lab.holder import environment

NOBODY = 65534
_WITHOUT_RIGHTS = f"--reuid={NOBODY} --regid={NOBODY} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs"


def run_as_nobody(argv: Sequence[str], runtime_dir: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Its output, captured. As an ordinary user: as this user, who has no rights either."""
    env = environment() | {"XDG_RUNTIME_DIR": str(runtime_dir), "HOME": str(runtime_dir)}
    command = (
        list(argv) if os.geteuid() else ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _script(argv)]
    )
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s, check=False, cwd="/")


@contextmanager
def directory_of_nobody() -> Iterator[Path]:
    """A runtime directory that this user may use."""
    with tempfile.TemporaryDirectory(prefix="tl-", dir="/tmp") as name:
        if not os.geteuid():
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def _script(argv: Sequence[str]) -> str:
    """In a mount namespace of its own: what Python needs, seen through directories that were closed."""
    needed = [Path(sys.base_prefix), Path(sys.prefix), Path(tumpline.__file__).parent.parent]
    closed = {path: _closed_above(path) for path in needed}
    lines = ["mount -t tmpfs tmpfs /mnt"]
    hidden = [(number, path) for number, path in enumerate(needed) if closed[path] is not None]
    lines += [f"mkdir /mnt/{number} && mount --bind {shlex.quote(str(path))} /mnt/{number}" for number, path in hidden]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(each))}" for each in {*closed.values()} - {None}]
    for number, path in hidden:
        place = shlex.quote(str(path))
        lines.append(f"mkdir -p {place} && mount --bind /mnt/{number} {place}")
    return "\n".join([*lines, f"exec setpriv {_WITHOUT_RIGHTS} {shlex.join(argv)}"])


def _closed_above(path: Path) -> Path | None:
    """The outermost directory above that others may not pass."""
    return next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)
