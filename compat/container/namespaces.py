"""The verbs carried out by namespaces of this machine: no container engine, no image, no root needed."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence

from container.network import LOG, POLL_S, READY_S, TBF, Network
from tumpline.errors import NoAnswerError, NotReachableError, StateError, TumplineError
from tumpline.lab import Lab
from tumpline.lab.holder import check_tools
from tumpline.lab.state import names_up

_TAIL_LINES = "1000"


class NamespaceNetwork(Network):
    """A laboratory of tumpline."""

    apart = True

    def build(self) -> None:
        check_tools()

    def create(self) -> None:
        self.stage.write()
        LOG.info("configurations are in %s", self.stage.directory)

    def start(self) -> None:
        if not self.stage.file.exists():
            raise StateError(
                f"{self.stage.directory} has no {self.stage.file.name}; make it first: act create (or prep)"
            )
        if self._is_up():
            LOG.info("%s is up already", self.lab.name)
            return
        Lab.read(self.stage.file, name=self.lab.name).up()
        LOG.info("%s is up; `tumpline lab status %s` shows it", self.lab.name, self.lab.name)

    def ready(self) -> None:
        lab, end = self._lab(), time.monotonic() + READY_S
        for node in self.agents:
            while not _answers(lab, node):
                if time.monotonic() > end:
                    raise NoAnswerError(
                        f"the agent of {node} did not answer within {READY_S:.0f} s; see {lab.logs}/{node}.log"
                    )
                time.sleep(POLL_S)
        LOG.info("all %d agents are ready", len(self.agents))

    def rate_ctrl(self) -> None:
        lab = self._lab()
        for port in lab.ports:
            argv = ["tc", "qdisc", "replace", "dev", port.net, "root", *TBF]
            done = lab.exec(port.node, argv)
            if done.returncode:
                raise TumplineError(f"{shlex.join(argv)} failed in {port.node}: {' '.join(done.stderr.split())}")

    def stop(self) -> None:
        if self.lab.name not in names_up():
            LOG.info("%s is not up", self.lab.name)
            return
        lab = Lab.find(self.lab.name)
        self.stage.keep_logs(lab.logs)
        lab.down()

    def delete(self) -> None:
        self.stop()
        self.stage.remove()

    def exec(self, node: str, command: Sequence[str]) -> int:
        self.check_node(node)
        if command[0] == "journalctl":
            return self._journal(node, command[1:])
        if command[0] == "systemctl":
            return self._unit(node, command[1:])
        lab = self._lab()
        argv = lab.command(node, command)
        # Signals from the terminal reach the command itself; we go on until it has ended.
        return subprocess.run(argv, env=lab.environment(node), check=False).returncode

    def _journal(self, node: str, options: Sequence[str]) -> int:
        """There is no systemd: the agent's log is shown, or followed with -f."""
        follow = bool({"-f", "--follow"} & set(options))
        running = self._is_up()
        log = (self._lab().logs if running else self.stage.node(node) / "log") / _log_of(node, options)
        if not log.exists():
            raise StateError(f"{node} has logged nothing yet; start it first: act start")
        if not (follow and running):
            return subprocess.run(["cat", "--", str(log)], check=False).returncode
        # The tail of coreutils ends with the process that it is told.
        argv = ["tail", f"--pid={self._lab().holder.pid}", "-n", _TAIL_LINES, "-F", str(log)]
        return subprocess.run(argv, check=False).returncode

    def _unit(self, node: str, words: Sequence[str]) -> int:
        """`systemctl is-active UNIT`: whether the node's agent answers; 3 as systemctl has it if not."""
        if words[:1] != ["is-active"]:
            raise TumplineError("there is no systemd in a node; `systemctl is-active UNIT` tells of its agent")
        active = self._is_up() and _answers(self._lab(), node)
        print("active" if active else "inactive")
        return 0 if active else 3

    def _lab(self) -> Lab:
        if not self._is_up():
            raise NotReachableError(f"{self.lab.name} is not up; start it first: act start")
        return Lab.find(self.lab.name)

    def _is_up(self) -> bool:
        return self.lab.name in names_up() and Lab.find(self.lab.name).holder.alive


def _log_of(node: str, options: Sequence[str]) -> str:
    """Of the agent that a unit's name in the options means: the bundle agent's, if there is none."""
    role = next((role for role in ("tcpcl", "udpcl") if any(f"dtn-{role}-agent" in each for each in options)), None)
    return f"{node}.log" if role is None else f"{node}.{role}-agent.log"


def _answers(lab: Lab, node: str) -> bool:
    try:
        with lab.client(node) as agent:
            agent.get("/v1/status")
    except (NotReachableError, NoAnswerError):
        return False
    return True
