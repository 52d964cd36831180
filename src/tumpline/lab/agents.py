"""Agents and other programs in the nodes: started all at once, ready when they say so, dead when their process is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tumpline.errors import TumplineError
from tumpline.lab.agent_config import write_configs
from tumpline.lab.apart import ENVIRONMENT, before_agent, bundle_agent, is_apart
from tumpline.lab.holder import Holder, environment
from tumpline.lab.model import LabFile
from tumpline.lab.processes import first_line, only_child, spawn, start_time
from tumpline.lab.state import LabDirectory

AGENT = "agent"
READY_S = 60.0  # an agent takes half a second of a processor; a dozen of them may share one that others use
_TAIL_LINES = 15
# The first line tells that it has begun; what the program prints goes to its log.
_BEGIN = 'echo begun; exec >>"$0" 2>&1; exec "$@"'


class Running(NamedTuple):
    """A program in a node, as long as `alive` says so."""

    node: str
    name: str  # "agent", or the first word of what was run
    pid: int
    started: int  # see processes.start_time
    log: str

    @property
    def alive(self) -> bool:
        """Whether it is still this process that has the pid."""
        return start_time(self.pid) == self.started


class _Starting(NamedTuple):
    node: str
    name: str
    process: subprocess.Popen[str]
    log: Path


def start_all(lab: LabFile, holder: Holder, directory: LabDirectory) -> list[Running]:
    """Further programs first, then all agents together. Raises: TumplineError with the end of a log."""
    write_configs(lab, directory.path / "nodes", directory.keys)
    running = []
    for node, section in lab.nodes.items():
        names: list[str] = []
        for argv in section.run:
            names.append(_free_name(Path(argv[0]).name, names))
            log = directory.logs / f"{node}.{names[-1]}.log"
            running.append(_ready(holder, _start_program(holder, directory, node, names[-1], argv, log), READY_S))
    with_agent = [node for node, each in lab.nodes.items() if each.agent is not None]
    running += _start_before_agents(holder, directory, with_agent)
    agents = [_start_agent(holder, directory, node) for node in with_agent]
    end = time.monotonic() + READY_S
    return running + [_ready(holder, each, max(0.0, end - time.monotonic())) for each in agents]


def _start_before_agents(holder: Holder, directory: LabDirectory, nodes: Sequence[str]) -> list[Running]:
    """Of nodes with several agents all but the bundle agent, those of all nodes together. Raises: TumplineError."""
    running: list[Running] = []
    apart = {node: before_agent(directory.node(node)) for node in nodes if is_apart(directory.node(node))}
    for phase in range(max(map(len, apart.values()), default=0)):
        starting = [
            _start_telling(holder, directory, node, name, argv, directory.logs / f"{node}.{name}.log")
            for node, phases in apart.items()
            for name, argv in phases[phase]
        ]
        end = time.monotonic() + READY_S
        running += [_ready(holder, each, max(0.0, end - time.monotonic())) for each in starting]
    return running


def start_program(holder: Holder, directory: LabDirectory, node: str | None, name: str, argv: Sequence[str]) -> Running:
    """One more, in a node or in the switch; it outlives this process. Raises: TumplineError."""
    log = directory.logs / f"{node or 'switch'}.{name}.log"
    return _ready(holder, _start_program(holder, directory, node, name, argv, log), READY_S)


def start_agent(holder: Holder, directory: LabDirectory, node: str) -> Running:
    """Start a node's agent (again). Raises: TumplineError with the end of its log."""
    return _ready(holder, _start_agent(holder, directory, node), READY_S)


def node_environment(directory: LabDirectory, node: str | None) -> dict[str, str]:
    """Of programs in a node: `tumpline` there means this program, and the node's agent."""
    base = environment()
    runtime = {"XDG_RUNTIME_DIR": str(directory.path / "nodes" / node)} if node is not None else {}
    if node is not None and is_apart(directory.node(node)):
        runtime |= ENVIRONMENT
    return base | runtime | {"PATH": f"{Path(sys.executable).parent}:{base['PATH']}"}


def _start_agent(holder: Holder, directory: LabDirectory, node: str) -> _Starting:
    place = directory.node(node)
    whole = [sys.executable, "-m", "tumpline", "up", "--config", str(place / f"{node}.toml")]
    argv = bundle_agent(place) if is_apart(place) else whole
    return _start_telling(holder, directory, node, AGENT, argv, directory.logs / f"{node}.log")


def _start_telling(
    holder: Holder, directory: LabDirectory, node: str, name: str, argv: Sequence[str], log: Path
) -> _Starting:
    """One whose first line on standard output says that it is ready."""
    with log.open("a") as errors:
        process = spawn(holder.command(node, argv), node_environment(directory, node), directory.node(node), errors)
    return _Starting(node, name, process, log)


def _start_program(
    holder: Holder, directory: LabDirectory, node: str | None, name: str, argv: Sequence[str], log: Path
) -> _Starting:
    command = holder.command(node, ["sh", "-c", _BEGIN, str(log), *argv])
    place = directory.path if node is None else directory.node(node)
    with log.open("a") as errors:
        process = spawn(command, node_environment(directory, node), place, errors)
    return _Starting(node or "", name, process, log)


def _ready(holder: Holder, starting: _Starting, timeout_s: float) -> Running:
    if not first_line(starting.process, timeout_s):
        raise TumplineError(f"{starting.name} of {starting.node} did not start:\n{log_tail(starting.log)}")
    pid = only_child(starting.process.pid)
    holder.adopt(starting.process.pid)
    return Running(starting.node, starting.name, pid, start_time(pid) or 0, str(starting.log))


def _free_name(name: str, taken: Sequence[str]) -> str:
    count = sum(each.partition("-")[0] == name for each in taken)
    return f"{name}-{count + 1}" if count else name


def log_tail(log: Path) -> str:
    """The end of a log, for the message about a failure."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (its log is empty)"
