"""A laboratory for programs and tests: `with Lab("file.yaml") as lab: lab.exec("ground", ["ping", "-c1", "rover"])`."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tumpline.errors import StateError, TumplineError
from tumpline.lab.addresses import Port, ports_of
from tumpline.lab.agents import AGENT, Running, node_environment, start_agent, start_all, start_program
from tumpline.lab.holder import Holder
from tumpline.lab.impairments import Impairments, make_packets_real
from tumpline.lab.links import plan
from tumpline.lab.model import LabFile
from tumpline.lab.names import hosts_file
from tumpline.lab.processes import kill
from tumpline.lab.read import load, loads
from tumpline.lab.ready import ready_file
from tumpline.lab.routers import guard
from tumpline.lab.stage import lab_text
from tumpline.lab.state import LabDirectory, labs_dir
from tumpline.node.client import SyncClient, connect_sync
from tumpline.node.paths import SOCKET
from tumpline.node.registry import did_you_mean

EXEC_S = 60.0
CONTROL_S = 30.0


class Lab:
    """One laboratory, up or down. As a context manager it is up for as long as the block lasts."""

    def __init__(self, file: LabFile, source: str) -> None:
        self.file = file
        self.ports: list[Port] = ports_of(file)
        self._source = source
        self._directory = LabDirectory(file.name)
        self._holder: Holder | None = None
        self._programs: list[Running] = []

    # ---- which one --------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: Path | str, *, name: str | None = None, apart: bool = False) -> Self:
        """Of a file, or of one of the ready laboratories by its name. `apart`: of a network file of the older agent, with
        its three agents over a D-Bus in each node. Raises: ConfigError."""
        file = ready_file(str(path)) or Path(path)
        if apart:
            made = load(file, apart=True)
            return cls._named(made, lab_text(made), name)
        return cls._named(load(file), file.read_text(), name)

    @classmethod
    def of(cls, text: str, *, name: str | None = None) -> Self:
        """Of YAML text. Raises: ConfigError."""
        return cls._named(loads(text), text, name)

    @classmethod
    def _named(cls, file: LabFile, source: str, name: str | None) -> Self:
        return cls(file if name is None else msgspec.structs.replace(file, name=name), source)

    @classmethod
    def find(cls, name: str) -> Self:
        """One that is up. Raises: NotReachableError."""
        holder, file, more = LabDirectory(name).load()
        lab = cls(file, "")
        lab._holder = holder
        lab._programs = [Running(*each) for each in more.get("programs", [])]
        return lab

    # ---- up and down ------------------------------------------------------------------------------------------------

    def up(self, *, lasting: bool = True) -> None:
        """One that is not `lasting` ends with this process at the latest.

        Raises: StateError: it is up already; TumplineError: what is missing, or what failed."""
        if self.file.engine == "world":
            raise StateError(f"{self.name} is a simulation: nothing can be up; `tumpline lab test` runs it")
        with self._lock():
            self._clear_remains()
            self._directory.create(self._source)
            try:
                self._build(lasting)
            except BaseException:
                self._end()
                raise

    def down(self) -> None:
        """End every process in it and forget it. Idempotent."""
        with self._lock():
            self._end()

    def _build(self, lasting: bool) -> None:
        self._holder = holder = Holder.start(self._directory.path, lasting)
        self._directory.save(holder, ready=False)
        for node, section in self.file.nodes.items():
            directory = self._directory.node(node)
            hosts, resolv = directory / "hosts", directory / "resolv.conf"
            hosts.write_text(hosts_file(self.ports, node))
            resolv.write_text("# names are in /etc/hosts\n")
            holder.add_node(node, hosts, resolv, section.is_router)
        self._wire(holder)
        for node in self.file.nodes:
            guard(holder, self.file, self.ports, node, self._directory.node(node))
        self._keep(start_all(self.file, holder, self._directory))

    def _keep(self, programs: Sequence[Running]) -> None:
        """The next command finds these."""
        self._programs = list(programs)
        self._directory.save(self.holder, ready=True, programs=self._programs)

    def _wire(self, holder: Holder) -> None:
        planned = plan(self.file, self.ports, holder.nodes)
        holder.run(None, ["ip", "-batch", "-"], "\n".join(planned.switch))
        for node, lines in planned.nodes.items():
            if lines:
                holder.run(node, ["ip", "-batch", "-"], "\n".join(lines))
        if planned.impaired:
            nets = {each.port.net for each in planned.impaired}
            make_packets_real(holder, [port for port in self.ports if port.net in nets])
            self._impairments().start(holder, planned.impaired, self._directory.logs / "impair.log")

    def _clear_remains(self) -> None:
        """Of a run that crashed: its processes may have ended, or nobody finished building it."""
        if not self._directory.path.exists():
            return
        try:
            holder, _, more = self._directory.load()
        except TumplineError:
            self._directory.remove()
            return
        if holder.alive and more.get("ready"):
            raise StateError(f"laboratory {self.name} is up already; end it with `tumpline lab down {self.name}`")
        holder.stop()
        self._directory.remove()

    def _end(self) -> None:
        if self._holder is None:
            try:
                self._holder = self._directory.load()[0]
            except TumplineError:
                self._directory.remove()
                return
        self._holder.stop()
        self._holder = None
        self._directory.remove()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One command at a time builds or ends it."""
        labs_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
        path = labs_dir() / f".{self.name}.lock"
        with open(path, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_same_file(path, file.fileno()):
                try:
                    yield
                finally:
                    if not self._directory.path.exists():
                        path.unlink()
                return
        # Whoever had it removed the file while we waited: the next one has another.
        with self._lock():
            yield

    def __enter__(self) -> Self:
        self.up(lasting=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # ---- what is in it ----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What `tumpline lab` calls it."""
        return self.file.name

    @property
    def directory(self) -> Path:
        """Where its logs, keys and captures lie while it is up."""
        return self._directory.path

    @property
    def holder(self) -> Holder:
        """Raises: StateError: it is not up."""
        if self._holder is None:
            raise StateError(f"laboratory {self.name} is not up; start it with `tumpline lab up`")
        return self._holder

    def addresses(self, node: str, net: str | None = None) -> list[str]:
        """Of a node (on one net), IPv4 before IPv6."""
        return [each for port in self.ports if port.node == node and net in (None, port.net) for each in port.addresses]

    def impair(self, net: str, impair: Mapping[str, Any], node: str | None = None) -> None:
        """From now on this befalls frames to the net: of one node, or of each that is on it. Keys are those of `impair` in
        the file; {} takes everything away. Raises: TumplineError: there is nothing between (see the file's `impair`)."""
        senders = [port.node for port in self.ports if port.net == net and node in (None, port.node)]
        if not senders:
            raise TumplineError(f"{node or 'nobody'} is not on a net {net!r}; there are {', '.join(self.file.nets)}")
        for sender in senders:
            self._impairments().change(sender, net, impair)

    def impairments(self) -> list[dict[str, Any]]:
        """What became of frames at the impaired ports: counters of each direction."""
        return self._impairments().statistics()

    def _impairments(self) -> Impairments:
        impaired = plan(self.file, self.ports, self.holder.nodes).impaired
        interfaces = {(each.port.node, each.port.net): (each.node_side, each.net_side) for each in impaired}
        return Impairments(self._directory.path, interfaces)

    def command(self, node: str | None, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in a node (None: in the switch), for programs that start it themselves."""
        return self.holder.command(node, argv)

    def environment(self, node: str | None) -> dict[str, str]:
        """Of programs in a node: `tumpline` there means this program, and the node's agent."""
        return node_environment(self._directory, node)

    def exec(self, node: str | None, argv: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:
        """Run in a node; further arguments are those of subprocess.run. Its output is text, captured.
        Raises: TumplineError: no such node; subprocess.TimeoutExpired."""
        usual: dict[str, Any] = {"capture_output": True, "text": True, "timeout": EXEC_S}
        usual["env"] = self.environment(node)
        if "stdin" not in how and "input" not in how:
            usual["stdin"] = subprocess.DEVNULL
        return subprocess.run(self.command(node, argv), check=False, **(usual | how))

    def start(self, node: str | None, argv: Sequence[str], **how: Any) -> subprocess.Popen[str]:
        """Start in a node; it ends with the laboratory at the latest. Further arguments are those of subprocess.Popen."""
        usual: dict[str, Any] = {"text": True, "stdin": subprocess.DEVNULL}
        usual["env"] = self.environment(node)
        return subprocess.Popen(self.command(node, argv), **(usual | how))

    # ---- agents and other programs ----------------------------------------------------------------------------------

    @property
    def programs(self) -> list[Running]:
        """All that were started in it, also those that have ended since."""
        return list(self._programs)

    def socket(self, node: str) -> Path:
        """The control socket of a node's agent, which answers from outside too. Raises: TumplineError."""
        self._agent_of(node)
        return self.directory / "nodes" / node / "state" / SOCKET

    def client(self, node: str, timeout_s: float | None = CONTROL_S) -> SyncClient:
        """`with lab.client("ground") as agent: agent.get("/v1/status")`. Raises: TumplineError."""
        return connect_sync(self.socket(node), timeout_s=timeout_s)

    @property
    def logs(self) -> Path:
        """NODE.log of each agent, NODE.PROGRAM.log of others."""
        return self._directory.logs

    def kill_agent(self, node: str) -> None:
        """End it as it stands (SIGKILL); `start_agent` begins anew with the same state."""
        running = self._running_agent(node)
        if running is not None:
            kill(running.pid, running.started)

    def start_agent(self, node: str) -> None:
        """Again, after it has ended. Raises: StateError: it runs; TumplineError with the end of its log."""
        self._agent_of(node)
        if self._running_agent(node) is not None:
            raise StateError(f"the agent of {node} runs already; end it with `kill_agent`")
        others = [each for each in self._programs if (each.node, each.name) != (node, AGENT)]
        self._keep([*others, start_agent(self.holder, self._directory, node)])

    def add_program(self, node: str | None, name: str, argv: Sequence[str]) -> Running:
        """Start one more that outlives this command. Raises: TumplineError."""
        running = start_program(self.holder, self._directory, node, name, argv)
        self._keep([*self._programs, running])
        return running

    def _running_agent(self, node: str) -> Running | None:
        return next((each for each in self._programs if (each.node, each.name) == (node, AGENT) and each.alive), None)

    def check_node(self, node: str) -> None:
        """Raises: TumplineError: there is none of that name."""
        if node not in self.file.nodes:
            raise TumplineError(f"there is no node {node!r}; {did_you_mean(node, self.file.nodes)}")

    def _agent_of(self, node: str) -> None:
        self.check_node(node)
        if self.file.nodes[node].agent is None:
            raise TumplineError(f"node {node} has no agent; write `agent: {{}}` for it in the laboratory's file")


def is_same_file(path: Path, descriptor: int) -> bool:
    """Whether this is what the path names now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def unique(name: str) -> str:
    """A name that no other laboratory has."""
    return f"{name[:40]}-{secrets.token_hex(4)}"
