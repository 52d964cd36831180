"""Real agents as child processes, each with a configuration, a state directory and a log below one directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tumpline.errors import NoAnswerError, TumplineError

READY_S = 20.0
STOP_S = 10.0
PROGRAM = (sys.executable, "-m", "tumpline")
_TAIL_LINES = 15


class AgentProcess:
    """One `tumpline up`. Its name is the first part of its node ID. `program` stands in for `tumpline`, such as one that
    watches it or confines it."""

    def __init__(self, name: str, directory: Path, config: str, program: Sequence[str] = PROGRAM) -> None:
        self.name = name
        self._program = program
        self.directory = directory / name
        self.directory.mkdir(parents=True)
        self.config_path = self.directory / f"{name}.toml"
        self.config_path.write_text(config)
        self.log_path = self.directory / "agent.log"
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def socket(self) -> Path:
        """Where control listens."""
        return self.directory / "state" / "control.sock"

    def start(self) -> None:
        """Start it; `wait_ready` tells when it listens."""
        command = [*self._program, "up", "--config", str(self.config_path)]
        with self.log_path.open("a") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=clean_environment(self.directory),
            )

    def wait_ready(self) -> None:
        """Return once the agent listens. Raises: TumplineError with the end of its log."""
        assert self._process is not None
        assert self._process.stdout is not None
        # `up` prints exactly one line when it listens; it ends by itself if it never can.
        if not self._process.stdout.readline():
            self._process.wait(STOP_S)
            raise TumplineError(f"{self.name} did not start (exit code {self._process.returncode}):\n{self.log_tail()}")

    def stop(self) -> None:
        """Ask it to end, make it end, take back what it held. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def wait_ended(self) -> int:
        """Return its exit code once it has ended by itself. Raises: TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        """End it at once, as it stands (SIGKILL); `start` begins anew in the same state directory."""
        assert self._process is not None
        self._process.kill()
        self.stop()

    def log_tail(self) -> str:
        """The end of what it logged."""
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return "\n".join(f"  {self.name}: {line}" for line in lines[-_TAIL_LINES:])

    def rss_max_mib(self) -> float:
        """The most memory it ever held resident."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise NoAnswerError(f"the kernel tells nothing of process {self.pid}")


class Agents:
    """Agents that end with the block, whatever happens in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.running: dict[str, AgentProcess] = {}

    def start(self, name: str, config: str, wait: bool = True, program: Sequence[str] = PROGRAM) -> AgentProcess:
        """Write the configuration and start the agent."""
        agent = AgentProcess(name, self._directory, config, program)
        self.running[name] = agent
        agent.start()
        if wait:
            agent.wait_ready()
        return agent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for agent in reversed(self.running.values()):
            agent.stop()


def clean_environment(directory: Path) -> dict[str, str]:
    """Ours, without options of the person who called us, and with a runtime directory apart from other agents'."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("TUMPLINE_") and key != "NOTIFY_SOCKET"
    }
    return kept | {"XDG_RUNTIME_DIR": str(directory)}
