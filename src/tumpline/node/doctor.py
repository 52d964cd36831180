"""What this machine offers an agent, and for what is missing the command that fixes it."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, NamedTuple

from tumpline.drivers.dtls.probe import probe
from tumpline.node import paths

PYTHON: Final = (3, 11)
SQLITE: Final = (3, 35, 0)  # the first with RETURNING
OPEN_FILES: Final = 1024  # sockets of sessions, and payload files that are being read
FREE_OCTETS: Final = 1 << 30
PORT: Final = 4556  # dtn-bundle: RFC 9174 §8.1, RFC 7122 §4
LIBRARIES: Final = (
    "aiohttp",
    "cbor2",
    "cryptography",
    "cyclopts",
    "fastcrc",
    "msgspec",
    "orjson",
    "platformdirs",
    "pyOpenSSL",
    "PyYAML",
    "rich",
)
TUN_DEVICE: Final = Path("/dev/net/tun")
_PROBE_S: Final = 10.0


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    seen: str  # what is there
    fix: str = ""  # the command (or change) that helps; "" where all is well
    needed: bool = True  # False: only for some of what tumpline does, which `what_for` names
    what_for: str = ""


def examine(state_dir: Path | None = None, port: int = PORT) -> list[Check]:
    """Look at everything. `state_dir`: where bundles would be kept."""
    return [check for look in LOOKS for check in look()] + [
        *check_port(port),
        *check_state_dir(state_dir or paths.state_dir("node").parent),
    ]


def is_ready(checks: list[Check]) -> bool:
    """Whether an agent can run here."""
    return all(check.ok for check in checks if check.needed)


# ---- the interpreter and its libraries ---------------------------------------------------------------------------------


def check_python() -> Iterator[Check]:
    """Python and what it was linked with."""
    yield _check("Python", sys.version_info >= PYTHON, sys.version.split()[0], "apt-get install python3.11")
    yield _check(
        "TLS 1.3", ssl.HAS_TLSv1_3, ssl.OPENSSL_VERSION, "use a Python that is linked with OpenSSL 1.1.1 or later"
    )
    new_enough = sqlite3.sqlite_version_info >= SQLITE
    yield _check("SQLite", new_enough, sqlite3.sqlite_version, "use a Python that is linked with SQLite 3.35 or later")


def check_libraries() -> Iterator[Check]:
    """What pip installs with tumpline."""
    missing, found = [], []
    for library in LIBRARIES:
        try:
            found.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            missing.append(library)
    seen = f"missing: {', '.join(missing)}" if missing else ", ".join(found)
    yield _check("libraries", not missing, seen, f"{sys.executable} -m pip install {' '.join(missing)}")


def check_dtls() -> Iterator[Check]:
    """DTLS needs a library of its own, which is linked with an OpenSSL of its own; version 1.3 needs a recent one."""
    found = probe()
    fix = f"{sys.executable} -m pip install pyOpenSSL"
    yield _check("DTLS", bool(found.py_openssl), str(found), fix, what_for="UDP links with security")


# ---- the kernel --------------------------------------------------------------------------------------------------------


def check_tun() -> Iterator[Check]:
    """The device behind virtual network interfaces."""
    usable = os.access(TUN_DEVICE, os.R_OK | os.W_OK)
    seen = (
        f"{TUN_DEVICE} is {'usable' if usable else 'not usable by this user' if TUN_DEVICE.exists() else 'not there'}"
    )
    fix = f"sudo chmod 666 {TUN_DEVICE}" if TUN_DEVICE.exists() else "sudo modprobe tun"
    yield _check("TUN device", usable, seen, fix, what_for="IP packets")


def check_user_namespaces() -> Iterator[Check]:
    """Whether somebody who is not root may have a network of their own."""
    ok = _runs("unshare", "--user", "--map-root-user", "--net", "true")
    if shutil.which("unshare") is None:
        fix = "apt-get install util-linux"
    elif Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").exists():
        fix = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    else:
        fix = "sudo sysctl -w user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1"
    seen = "unshare --user --net works" if ok else "unshare --user --net is refused"
    yield _check("user namespaces", ok, seen, fix, what_for="labs and `tumpline run` without root")


def check_open_files() -> Iterator[Check]:
    """Each session and each large bundle under way is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield _check("open files", soft >= OPEN_FILES, f"{soft} (up to {hard})", f"ulimit -n {OPEN_FILES}")


# ---- programs ----------------------------------------------------------------------------------------------------------


def check_programs() -> Iterator[Check]:
    """Programs that some commands and tests call."""
    for program, package, what_for in (
        ("tshark", "tshark", "reading captures"),
        ("openssl", "openssl", "tests of certificates"),
        ("ip", "iproute2", "labs"),
    ):
        place = shutil.which(program)
        yield _check(program, place is not None, place or "not found", f"apt-get install {package}", what_for=what_for)


# ---- places ------------------------------------------------------------------------------------------------------------


def check_runtime_dir() -> Iterator[Check]:
    """Where the control socket goes."""
    directory = paths.runtime_dir()
    near = _existing(directory)
    usable = os.access(near, os.W_OK | os.X_OK)
    seen = f"{directory} {'can be used' if usable else 'cannot be written'}"
    yield _check("runtime directory", usable, seen, "export XDG_RUNTIME_DIR=$(mktemp -d)")


def check_port(port: int) -> Iterator[Check]:
    """Whether links can listen where others look for them."""
    for name, kind in (("TCP", socket.SOCK_STREAM), ("UDP", socket.SOCK_DGRAM)):
        code = _bind_error(kind, port)
        if code == 0:
            seen = "free"
        elif code == errno.EADDRINUSE:
            seen = "in use (fine if that is your agent)"
        else:
            seen = os.strerror(code).lower()
        fix = f"ss -lnp 'sport = :{port}' names who has it; stop that, or listen on another port"
        yield _check(f"{name} port {port}", code == 0, seen, fix, what_for="listening on the usual port")


def check_state_dir(directory: Path) -> Iterator[Check]:
    """Whether bundles outlive a restart of the machine, and how many there is room for."""
    near = _existing(directory)
    free = shutil.disk_usage(near).free
    room = f"{free / (1 << 30):.1f} GiB free in {near}"
    fix = "set node.state_dir to a directory with room, or lower store.quota_bytes"
    yield _check("room for bundles", free >= FREE_OCTETS, room, fix, what_for="the default quota of 10 GiB")
    writable = os.access(near, os.W_OK | os.X_OK)
    yield _check(
        "state directory",
        writable,
        f"{directory} {'can be' if writable else 'cannot be'} used",
        f"sudo chown $USER {near}",
    )
    kind = filesystem(near)
    kept = kind not in ("tmpfs", "ramfs")
    fix = "set node.state_dir to a directory on a disk"
    yield _check("durable state", kept, f"{near} is on {kind}", fix, what_for="keeping bundles over a reboot")


def filesystem(path: Path) -> str:
    """The kind of file system that `path` is on, as /proc/self/mounts names it."""
    best, kind = -1, "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, found, *_ = line.split(" ")
        place = Path(mount.encode().decode("unicode_escape"))  # spaces are \040
        if len(place.parts) > best and path.resolve().is_relative_to(place):
            best, kind = len(place.parts), found
    return kind


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _bind_error(kind: socket.SocketKind, port: int) -> int:
    """The errno with which binding fails; 0 if it works."""
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:  # as a listener would: a connection that has ended is not in its way
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            return error.errno or errno.EIO
    return 0


def _runs(*command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _check(name: str, ok: bool, seen: str, fix: str, what_for: str = "") -> Check:
    return Check(name, ok, seen, "" if ok else fix, needed=not what_for, what_for=what_for)


LOOKS: Final[tuple[Callable[[], Iterator[Check]], ...]] = (
    check_python,
    check_libraries,
    check_dtls,
    check_tun,
    check_user_namespaces,
    check_open_files,
    check_programs,
    check_runtime_dir,
)
