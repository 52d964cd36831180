"""The verbs carried out by a container engine: `docker compose`, or what DOCKER names (`DOCKER="sudo podman"`)."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

from container.network import LOG, POLL_S, READY_S, TBF, Network, checkout
from tumpline.errors import NoAnswerError, StateError, TumplineError

PROJECT = "demo"
# In a container an interface is not called as its net.
_EACH_PORT = (
    'for port in /sys/class/net/eth*; do tc qdisc replace dev "${port##*/}" root ' + shlex.join(TBF) + " || exit; done"
)
_CONTROL = ["tumpline", "status", "--json"]


class EngineNetwork(Network):
    """Containers of a compose file."""

    def build(self) -> None:
        self.stage.write(checkout())
        self._compose("build", *(["--no-cache"] if self.options.no_cache else []))

    def create(self) -> None:
        self.stage.write(checkout())
        self._compose("up", "--no-start", "--remove-orphans")

    def start(self) -> None:
        self._compose("start")

    def ready(self) -> None:
        end = time.monotonic() + READY_S
        for node in self.agents:
            while self._run("exec", "-T", node, *_CONTROL, quiet=True):
                if time.monotonic() > end:
                    raise NoAnswerError(
                        f"the agent of {node} did not answer within {READY_S:.0f} s; see {_engine()} logs"
                    )
                time.sleep(POLL_S)
        LOG.info("all %d agents are ready", len(self.agents))

    def rate_ctrl(self) -> None:
        for node in self.lab.nodes:
            self._compose("exec", "-T", node, "sh", "-c", _EACH_PORT)

    def stop(self) -> None:
        if self.stage.compose.exists():
            self._compose("stop")

    def delete(self) -> None:
        if self.stage.compose.exists():
            self._compose("down", "--volumes", "--remove-orphans")
        self.stage.remove()

    def exec(self, node: str, command: Sequence[str]) -> int:
        self.check_node(node)
        interactive = [] if sys.stdin.isatty() else ["-T"]
        return self._run("exec", *interactive, node, *command)

    def _compose(self, *words: str) -> None:
        if code := self._run(*words):
            raise TumplineError(f"{_engine()} compose {words[0]} failed with exit code {code}")

    def _run(self, *words: str, quiet: bool = False) -> int:
        if not self.stage.compose.exists():
            raise StateError(
                f"{self.stage.directory} has no {self.stage.compose.name}; make it first: act pkigen create"
            )
        argv = [*shlex.split(_engine()), "compose", "-p", PROJECT, "-f", str(self.stage.compose), *words]
        output = subprocess.DEVNULL if quiet else None
        try:
            return subprocess.run(argv, stdout=output, stderr=output, check=False).returncode
        except FileNotFoundError as error:
            raise TumplineError(f"{argv[0]} is not there; install it, or name another engine: DOCKER=podman") from error


def _engine() -> str:
    return os.environ.get("DOCKER") or "docker"
