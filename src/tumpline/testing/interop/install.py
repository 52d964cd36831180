"""Installs the peers, once, below the user's cache directory: `python -m tumpline.testing.interop.install`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# The versions that docs/interop.md speaks of.
DTN7_GO = "v0.9.1"
DTN7_RS = "0.21.0"
OLDER_PACKET_AGENT = "0.2.20"
# What it needs, as it was seen to work with Python 3.
_OLDER_PACKET_AGENT_NEEDS = (
    "amqp==5.4.2",
    "click==8.5.1",
    "kombu==5.7.0",
    "pika==1.4.4",
    "pyserial==3.5",
    "six==1.17.0",
)
BUILD_S = 3600.0  # the Rust peer takes a quarter of an hour on a slow machine


class Peer(NamedTuple):
    """A program: where its commands are, and what makes them."""

    name: str
    version: str
    commands: tuple[str, ...]
    build: Callable[[Path], None]

    @property
    def bin(self) -> Path:
        """The directory of its commands."""
        return cache() / f"{self.name}-{self.version}" / "bin"


def cache() -> Path:
    """Where peers are kept: never in the source tree."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tumpline-interop"


def install(peer: Peer) -> Path:
    """The directory of the peer's commands, built if it is not there yet. Raises: AssertionError with what to do."""
    if not all((peer.bin / command).exists() for command in peer.commands):
        print(f"building {peer.name} {peer.version} in {peer.bin.parent} ...", file=sys.stderr, flush=True)
        peer.bin.mkdir(parents=True, exist_ok=True)
        peer.build(peer.bin)
    return peer.bin


def _go(target: Path) -> None:
    """`go install` inside a module of its own: the exact version, nothing of the machine's own modules."""
    _needs("go", "apt-get install golang-go")
    package = "github.com/dtn7/dtn7-go"
    with tempfile.TemporaryDirectory() as directory:
        _run(["go", "mod", "init", "example.invalid/interop"], directory)
        _run(["go", "get", f"{package}@{DTN7_GO}"], directory)
        # Its golang.org/x/net of 2021 reaches into the standard library, which linkers of Go 1.23 and later refuse.
        command = ["go", "install", "-mod=mod", "-ldflags=-checklinkname=0", f"{package}/cmd/dtnd"]
        _run(command, directory, GOBIN=str(target))


def _cargo(target: Path) -> None:
    _needs("cargo", "apt-get install cargo")
    # Without default features: its stores on disk are of no use here, and double the time of the build.
    command = ["cargo", "install", "dtn7", "--version", DTN7_RS, "--locked", "--no-default-features", "--jobs", "1"]
    _run([*command, "--root", str(target.parent), "--bins"], str(target))


def _venv(target: Path) -> None:
    """Its own environment: its packages are no business of ours."""
    _run([sys.executable, "-m", "venv", str(target.parent)], str(target))
    wanted = [f"ioppytest-agent=={OLDER_PACKET_AGENT}", *_OLDER_PACKET_AGENT_NEEDS]
    _run([str(target / "python"), "-m", "pip", "install", "--quiet", *wanted], str(target))


def _needs(command: str, how: str) -> None:
    assert shutil.which(command), f"{command} is not installed: {how}"


def _run(command: list[str], directory: str, **environment: str) -> None:
    done = subprocess.run(
        ["nice", "-n", "19", *command],
        cwd=directory,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stderr[-4000:]}"


DTN7_GO_PEER = Peer("dtn7-go", DTN7_GO, ("dtnd",), _go)
DTN7_RS_PEER = Peer("dtn7-rs", DTN7_RS, ("dtnd", "dtnsend", "dtnrecv"), _cargo)
OLDER_PACKET_AGENT_PEER = Peer("ioppytest-agent", OLDER_PACKET_AGENT, ("python", "ioppytest-agent"), _venv)
PEERS = (DTN7_GO_PEER, DTN7_RS_PEER, OLDER_PACKET_AGENT_PEER)

if __name__ == "__main__":
    for each in PEERS:
        print(each.name, each.version, install(each))
