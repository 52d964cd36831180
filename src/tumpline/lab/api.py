"""A laboratory for programs and tests: `with Lab("file.yaml") as lab: lab.exec("ground", ["ping", "-c1", "rover"])`."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tumpline.errors import StateError, TumplineError
from tumpline.lab.addresses import Port, ports_of
from tumpline.lab.holder import Holder, environment
from tumpline.lab.links import plan
from tumpline.lab.model import LabFile
from tumpline.lab.names import hosts_file
from tumpline.lab.read import load, loads
from tumpline.lab.ready import ready_file
from tumpline.lab.state import LabDirectory, labs_dir

EXEC_S = 60.0


class Lab:
    """One laboratory, up or down. As a context manager it is up for as long as the block lasts."""

    def __init__(self, file: LabFile, source: str) -> None:
        self.file = file
        self.ports: list[Port] = ports_of(file)
        self._source = source
        self._directory = LabDirectory(file.name)
        self._holder: Holder | None = None
        self._more: dict[str, Any] = {}

    # ---- which one --------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: Path | str, *, name: str | None = None) -> Self:
        """Of a file, or of one of the ready laboratories by its name. Raises: ConfigError."""
        file = ready_file(str(path)) or Path(path)
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
        lab._holder, lab._more = holder, more
        return lab

    # ---- up and down ------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Raises: StateError: it is up already; TumplineError: what is missing, or what failed."""
        with self._lock():
            self._clear_remains()
            self._directory.create(self._source)
            try:
                self._build()
            except BaseException:
                self._end()
                raise

    def down(self) -> None:
        """End every process in it and forget it. Idempotent."""
        with self._lock():
            self._end()

    def _build(self) -> None:
        self._holder = holder = Holder.start(self._directory.path)
        self._directory.save(holder, ready=False)
        for node, section in self.file.nodes.items():
            directory = self._directory.node(node)
            hosts, resolv = directory / "hosts", directory / "resolv.conf"
            hosts.write_text(hosts_file(self.ports, node))
            resolv.write_text("# names are in /etc/hosts\n")
            holder.add_node(node, hosts, resolv, section.is_router)
        self._wire(holder)
        self._directory.save(holder, ready=True)

    def _wire(self, holder: Holder) -> None:
        planned = plan(self.file, self.ports, holder.nodes)
        holder.run(None, ["ip", "-batch", "-"], "\n".join(planned.switch))
        for node, lines in planned.nodes.items():
            if lines:
                holder.run(node, ["ip", "-batch", "-"], "\n".join(lines))

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
        with open(labs_dir() / f".{self.name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if not self._directory.path.exists():
                    os.unlink(file.name)

    def __enter__(self) -> Self:
        self.up()
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

    def command(self, node: str | None, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in a node (None: in the switch), for programs that start it themselves."""
        return self.holder.command(node, argv)

    def exec(self, node: str | None, argv: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:
        """Run in a node; further arguments are those of subprocess.run. Its output is text, captured.
        Raises: TumplineError: no such node; subprocess.TimeoutExpired."""
        usual: dict[str, Any] = {"capture_output": True, "text": True, "timeout": EXEC_S, "env": environment()}
        if "stdin" not in how and "input" not in how:
            usual["stdin"] = subprocess.DEVNULL
        return subprocess.run(self.command(node, argv), check=False, **(usual | how))

    def start(self, node: str | None, argv: Sequence[str], **how: Any) -> subprocess.Popen[str]:
        """Start in a node; it ends with the laboratory at the latest. Further arguments are those of subprocess.Popen."""
        usual: dict[str, Any] = {"text": True, "env": environment(), "stdin": subprocess.DEVNULL}
        return subprocess.Popen(self.command(node, argv), **(usual | how))


def unique(name: str) -> str:
    """A name that no other laboratory has."""
    return f"{name[:40]}-{secrets.token_hex(4)}"
