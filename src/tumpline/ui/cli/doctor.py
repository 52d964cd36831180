"""`tumpline doctor`: what is missing on this machine, and the command that fixes it."""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tumpline.errors import TumplineError
from tumpline.node.control.sockets import runtime_dir
from tumpline.ui.cli.agent import find_agent
from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output

_NEEDED_FILES = 1024  # sockets of sessions and payload files being read
_MIN_FREE_OCTETS = 1 << 30
_SQLITE_NEEDED = (3, 35, 0)  # the first with RETURNING
_MODULES = ("aiohttp", "cbor2", "cryptography", "cyclopts", "fastcrc", "msgspec", "platformdirs", "rich", "yaml")


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    seen: str
    remedy: str = ""


def doctor(*, common: Common = DEFAULT) -> int:
    """Look at this machine. Exits 1 if something is missing."""
    findings = [found for look in LOOKS for found in look()]
    all_ok = all(finding.ok for finding in findings)
    Output(common).result({"ok": all_ok, "findings": [finding._asdict() for finding in findings]}, _shown(findings))
    return 0 if all_ok else 1


def _shown(findings: list[Finding]) -> Iterator[str]:
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        yield f"{'ok     ' if finding.ok else 'MISSING'}  {finding.what.ljust(width)}  {finding.seen}"
        if not finding.ok:
            yield f"         {' ' * width}  fix: {finding.remedy}"


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or later")
    modern = ssl.HAS_TLSv1_3
    yield Finding("TLS 1.3", modern, ssl.OPENSSL_VERSION, "use a Python that is linked with OpenSSL 1.1.1 or later")
    new_enough = sqlite3.sqlite_version_info >= _SQLITE_NEEDED
    yield Finding("SQLite", new_enough, sqlite3.sqlite_version, "use a Python that is linked with SQLite 3.35 or later")


def _modules() -> Iterator[Finding]:
    missing = []
    for name in _MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    seen = "all there" if not missing else f"cannot import {', '.join(missing)}"
    yield Finding("libraries", not missing, seen, f"{sys.executable} -m pip install --force-reinstall tumpline")


def _runtime_dir() -> Iterator[Finding]:
    path = runtime_dir()
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    writable = os.access(nearest, os.W_OK)
    remedy = f"export XDG_RUNTIME_DIR=/tmp/run-{os.getuid()}; mkdir -m 700 -p $XDG_RUNTIME_DIR"
    yield Finding("runtime directory", writable, f"{path}{'' if writable else ' cannot be written'}", remedy)


def _state_space() -> Iterator[Finding]:
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    nearest = next(parent for parent in (base, *base.parents) if parent.exists())
    free = shutil.disk_usage(nearest).free
    yield Finding(
        "disk space", free >= _MIN_FREE_OCTETS, f"{free / 2**30:.1f} GiB free in {nearest}", f"free space in {nearest}"
    )


def _open_files() -> Iterator[Finding]:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Finding("open files", soft >= _NEEDED_FILES, f"limit {soft}", f"ulimit -n {_NEEDED_FILES}")


def _clock() -> Iterator[Finding]:
    import time

    # Bundles made by a clock that stands before this release count as expired everywhere else.
    right = time.gmtime().tm_year >= 2025
    yield Finding("clock", right, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "timedatectl set-ntp true")


def _agent() -> Iterator[Finding]:
    try:
        seen = f"answers at {find_agent(None)}"
    except TumplineError as error:
        seen = str(error)
    yield Finding("agent", True, seen)  # not running is no defect of the machine


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _modules,
    _runtime_dir,
    _state_space,
    _open_files,
    _clock,
    _agent,
)
