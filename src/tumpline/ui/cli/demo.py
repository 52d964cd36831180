"""`tumpline demo`: three real agents, mutual TLS, a file for a node that is out of contact, and the contact that opens late."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tumpline.bench.framework.agents import AgentProcess, Agents, clean_environment
from tumpline.errors import NoAnswerError, TumplineError
from tumpline.node.client import connect_sync
from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output, duration, octets, table

NODES = ("ground", "relay", "rover")
FILE_OCTETS = 64 << 20
_CHUNK_OCTETS = 1 << 20
_STEP_S = 60.0  # far more than any step takes; a demo that hangs must end
_POLL_S = 0.05
_LATE = "+1h"  # the planned contact with the rover: later than the demo lasts

_CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"

[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"
{connect}
[links.tls]
mode = "required"
authenticate = "node"
ca = "{certs}/ca.pem"
cert = "{certs}/{name}.pem"
key = "{certs}/{name}.key"

{more}"""
_ROVER_INBOX = """
[services.files]
directory = "{inbox}"
"""
_RELAY_PLAN = """
[[peers]]
id = "dtn://rover/"
link = "tcpcl4"
address = "{rover}"

[[contacts]]
peer = "dtn://rover/"
start = "{late}"
duration = "10m"
"""
_GROUND_PLAN = """
[[routes]]
to = "dtn://rover/**"
via = "dtn://relay/"
"""


class Step(NamedTuple):
    """A line of the table."""

    step: str
    seen: str
    seconds: float


class Demo:
    """The run and what was seen in it."""

    def __init__(self, output: Output, directory: Path, agents: Agents) -> None:
        self._output = output
        self._directory = directory
        self._agents = agents
        self.steps: list[Step] = []
        self._begin = time.monotonic()

    def run(self, file: Path | None) -> None:
        """All steps. Raises: TumplineError when something is not as it should be."""
        self._certificates()
        self._start()
        source = file or self._make_file()
        name, size, digest = source.name, source.stat().st_size, sha256_of(source)
        self._step("a file to send", f"{name}, {octets(size)}, SHA-256 {digest[:16]}...")
        self._send(source)
        self._kept_by_relay(size)
        self._open_contact()
        self._delivered(name, size, digest)

    def _step(self, step: str, seen: str) -> None:
        now = time.monotonic()
        self.steps.append(Step(step, seen, round(now - self._begin, 3)))
        self._begin = now
        self._output.note(f"{step}: {seen}")

    def _certificates(self) -> None:
        self._tumpline("cert", "quick", *NODES, "--directory", str(self._directory / "certs"))
        self._step("a private CA and three certificates", "tumpline cert quick ground relay rover")

    def _start(self) -> None:
        rover = self._agent("rover", more=_ROVER_INBOX.format(inbox=self._inbox()))
        plan = _RELAY_PLAN.format(rover=self._address(rover), late=_LATE)
        relay = self._agent("relay", more=plan)
        self._agent("ground", connect=f'connect = ["{self._address(relay)}"]\n', more=_GROUND_PLAN)
        self._wait(
            "ground and relay have no session", lambda: self._peer_of("ground", "dtn://relay/").get("authenticated")
        )
        security = self._peer_of("ground", "dtn://relay/").get("security", "?")
        pids = ", ".join(f"{name} {agent.pid}" for name, agent in self._agents.running.items())
        self._step("three agents", f"processes {pids}; ground and relay joined over {security}, node IDs proved")

    def _agent(self, name: str, connect: str = "", more: str = "") -> AgentProcess:
        certs = self._directory / "certs"
        return self._agents.start(name, _CONFIG.format(name=name, certs=certs, connect=connect, more=more))

    def _address(self, agent: AgentProcess) -> str:
        links = self._ask(agent.name, "/v1/links")["links"]
        return str(links[0]["listening"][0])

    def _make_file(self) -> Path:
        path = self._directory / "pictures.tar"
        chance = random.Random(0x70AC)
        with path.open("wb") as target:
            for _ in range(FILE_OCTETS // _CHUNK_OCTETS):
                target.write(chance.randbytes(_CHUNK_OCTETS))
        return path

    def _send(self, file: Path) -> None:
        self._tumpline("send", str(file), "dtn://rover/", "--no-wait", "--node", str(self._socket("ground")))
        self._step(
            "sent to the rover, which is out of contact", f"tumpline send {file.name} dtn://rover/ --node ground"
        )

    def _kept_by_relay(self, size: int) -> None:
        self._wait("the relay does not hold the whole file", lambda: self._store("relay")["octets"] >= size)
        self._wait("ground still holds bundles", lambda: self._store("ground")["bundles"] == 0)
        held, files = self._store("relay"), self._status("rover")["services"]["files"]
        if files["received"] or files["partial"] or any(self._inbox().glob("[!.]*")):
            raise TumplineError(f"the rover has something already, although it is out of contact: {files}")
        self._step(
            "kept by the relay",
            f"{held['bundles']} bundles, {octets(held['octets'])}; ground holds none, rover got nothing",
        )

    def _open_contact(self) -> None:
        self._tumpline("contacts", "add", "dtn://rover/", "--duration", "10m", "--node", str(self._socket("relay")))
        self._step("contact opened", "tumpline contacts add dtn://rover/ --duration 10m --node relay")

    def _delivered(self, name: str, size: int, digest: str) -> None:
        path = self._inbox() / name
        self._wait("the file has not come to the rover", lambda: path.is_file() and path.stat().st_size == size)
        found = sha256_of(path)
        if found != digest:
            raise TumplineError(f"the delivered file differs: SHA-256 {found} instead of {digest}")
        self._wait("the relay still holds bundles", lambda: self._store("relay")["bundles"] == 0)
        self._step(
            "delivered to the rover",
            f"{path.name}, {octets(size)}, SHA-256 {found[:16]}... is the same; relay holds nothing",
        )

    # ---- looking ----------------------------------------------------------------------------------------------------

    def _socket(self, name: str) -> Path:
        return self._agents.running[name].socket

    def _inbox(self) -> Path:
        return self._directory / "inbox"

    def _status(self, name: str) -> dict[str, Any]:
        return self._ask(name, "/v1/status")

    def _store(self, name: str) -> dict[str, Any]:
        store: dict[str, Any] = self._status(name)["store"]
        return store

    def _peer_of(self, name: str, peer: str) -> dict[str, Any]:
        return next((found for found in self._status(name)["peers"] if found["id"] == peer), {})

    def _wait(self, otherwise: str, is_so: Callable[[], Any]) -> None:
        deadline = time.monotonic() + _STEP_S
        while not is_so():
            if time.monotonic() > deadline:
                raise NoAnswerError(f"{otherwise} after {_STEP_S:.0f} s")
            time.sleep(_POLL_S)

    def _ask(self, name: str, path: str) -> dict[str, Any]:
        with connect_sync(self._agents.running[name].socket, timeout_s=_STEP_S) as agent:
            return agent.get(path)

    def _tumpline(self, *arguments: str) -> str:
        """What a person would type."""
        command = [sys.executable, "-m", "tumpline", *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_STEP_S,
            env=clean_environment(self._directory),
            check=False,
        )
        if done.returncode != 0:
            raise TumplineError(f"`tumpline {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def sha256_of(path: Path) -> str:
    """Of the file's octets, read anew."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def demo(*, file: Path | None = None, common: Common = DEFAULT) -> int:
    """Run the demonstration: no root, broker or bus needed; everything it makes is removed afterwards.

    Parameters
    ----------
    file
        What to send (default: 64 MiB of pseudo-random octets).
    """
    output = Output(common)
    # A short path: UNIX sockets allow about 100 characters.
    with tempfile.TemporaryDirectory(prefix="tumpline-demo-") as name, Agents(Path(name)) as agents:
        run = Demo(output, Path(name), agents)
        try:
            run.run(None if file is None else file.resolve(strict=True))
        except BaseException:
            for agent in agents.running.values():
                output.error(agent.log_tail())
            raise
    rows = [(step.step, step.seen, duration(step.seconds)) for step in run.steps]
    output.result({"ok": True, "steps": [step._asdict() for step in run.steps]}, table(("STEP", "SEEN", "TIME"), rows))
    return 0
