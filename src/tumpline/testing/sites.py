"""Sites of a packet overlay: network namespaces that see nothing of each other, and the broker at one address.

The broker runs where the test runs. What listens at its address within the laboratory is a relay, which a test can cut:
then the sites have lost the network, and the broker has not noticed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tumpline.drivers.amqp import AmqpUrl
from tumpline.lab import Lab
from tumpline.lab.api import unique
from tumpline.lab.processes import end_inside, only_child

HUB: Final = "hub"
HUB_ADDRESS: Final = "10.99.0.1"
AMQP_PORT: Final = 5672
STEP_S: Final = 30.0  # longer than any step takes on a busy machine
_LISTEN: Final = """
import socket, sys
listener = socket.create_server(("", int(sys.argv[2])), backlog=64)
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"x"], [listener.fileno()])
"""


class Sites:
    """A laboratory of some sites, and the programs in it."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self._directory = directory
        self.runtime_dir = directory / "run"  # of all sites
        self.runtime_dir.mkdir()
        self._relay: subprocess.Popen[bytes] | None = None
        self._broker = AmqpUrl()
        self._agents: list[SiteAgent] = []

    def connect_broker(self, broker: AmqpUrl) -> None:
        """From now on the broker, which listens on the loopback of the test, is at `url` of the laboratory."""
        self.cut_broker()
        self._broker = broker
        listener = self._listener()
        command = [sys.executable, "-m", "tumpline.testing.sites", str(listener.fileno()), str(broker.port)]
        self._relay = subprocess.Popen(command, pass_fds=(listener.fileno(),))
        listener.close()

    def url(self, *, user: str = "", password: str = "", virtual_host: str = "") -> str:
        """The broker as sites see it; something else where a test wants it wrong."""
        broker = self._broker
        where = quote(virtual_host or broker.virtual_host, safe="")
        return f"amqp://{user or broker.user}:{password or broker.password}@{HUB_ADDRESS}:{AMQP_PORT}/{where}"

    def _listener(self) -> socket.socket:
        """A socket that belongs to the hub's network."""
        here, there = socket.socketpair()
        with here, there:
            command = self.lab.command(HUB, [sys.executable, "-c", _LISTEN, str(there.fileno()), str(AMQP_PORT)])
            subprocess.run(command, pass_fds=(there.fileno(),), check=True, timeout=STEP_S)
            _, descriptors, _, _ = socket.recv_fds(here, 1, 1)
        return socket.socket(fileno=descriptors[0])

    def cut_broker(self) -> None:
        """Every connection to the broker ends, and none comes about."""
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()
            self._relay = None

    def connect(self, site: str, *options: str, name: str = "", url: str = "", **how: Any) -> SiteAgent:
        """`tumpline tunnel connect` in a site; by default it has the site's name. Not waited for."""
        command = ["tunnel", "connect", "--json", "--name", name or site, *options]
        return self.start(site, command, env={"AMQP_URL": url or self.url()}, **how)

    def start(self, site: str, command: Sequence[str], *, module: str = "tumpline", **how: Any) -> SiteAgent:
        """A `tumpline` command in a site, or that of another module."""
        log = self._directory / f"{site}-{len(self._agents)}.log"
        agent = SiteAgent(self.lab, site, [sys.executable, "-m", module, *command], log, **how)
        self._agents.append(agent)
        return agent

    @contextmanager
    def program(self, site: str, command: Sequence[str]) -> Iterator[None]:
        """Somebody else's program in a site, as long as the block lasts."""
        process = self.lab.start(site, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            end_inside(process)

    @property
    def password(self) -> str:
        """Of the broker's user: nobody is to say it."""
        return self._broker.password

    def ping(self, site: str, address: str, *, count: int = 1, wait_s: float = 5.0) -> bool:
        """Whether an answer came."""
        command = ["ping", "-c", str(count), "-i", "0.2", "-W", str(wait_s), address]
        return self.lab.exec(site, command).returncode == 0

    def await_ping(self, site: str, address: str) -> None:
        """Until an answer comes. Raises: AssertionError."""
        deadline = time.monotonic() + STEP_S
        while not self.ping(site, address, wait_s=0.5):
            assert time.monotonic() < deadline, f"{site} does not reach {address}:\n{self.logs()}"

    def logs(self) -> str:
        """What all agents said, for a failed test."""
        return "\n".join(f"--- {agent.site}\n{agent.said()}" for agent in self._agents)

    def end_agents(self) -> None:
        """Those that still run, as Ctrl-C does."""
        agents, self._agents = self._agents, []
        for agent in agents:
            agent.end(signal.SIGINT)

    def close(self) -> None:
        """End everything."""
        for agent in self._agents:
            agent.end(signal.SIGKILL)
        self.cut_broker()


class SiteAgent:
    """An agent in a site; what it tells is read as it comes."""

    def __init__(
        self, lab: Lab, site: str, command: Sequence[str], log: Path, env: dict[str, str] | None = None
    ) -> None:
        self.site = site
        self._lab = lab
        self._log = log
        environment = lab.environment(site) | {"XDG_RUNTIME_DIR": str(log.parent / "run")} | (env or {})
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                lab.command(site, command), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment
            )

    def said(self) -> str:
        """All output until now."""
        return self._log.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it told with --json, of one kind."""
        found = [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]
        return [each for each in found if each.get("event") == name]

    def await_event(self, event: str, /, *, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Until it has told this. Raises: AssertionError: it ended, or took too long."""
        deadline = time.monotonic() + STEP_S
        while len(found := [each for each in self.events(event) if fields.items() <= each.items()]) < count:
            assert self.process.poll() is None, f"{self.site} ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < deadline, f"{self.site} told no {event} {fields}:\n{self.said()}"
            time.sleep(0.02)
        return found[-1]

    def wait(self) -> int:
        """Its exit code, when it ends by itself."""
        return self.process.wait(STEP_S)

    def await_line(self, text: str) -> None:
        """Until it has said this. Raises: AssertionError: it ended, or took too long."""
        deadline = time.monotonic() + STEP_S
        while text not in self.said():
            assert self.process.poll() is None, f"{self.site} ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < deadline, f"{self.site} did not say {text!r}:\n{self.said()}"
            time.sleep(0.02)

    def send_signal(self, number: int) -> None:
        """To the program itself, not to what entered the namespace for it."""
        os.kill(_innermost(self.process.pid), number)

    def end(self, number: int = signal.SIGINT) -> int:
        """Signal it and wait. Returns: its exit code. Idempotent."""
        if self.process.poll() is None:
            self.send_signal(number)
        return self.process.wait(STEP_S)


def _innermost(pid: int) -> int:
    """Where a pid namespace is entered, nsenter waits for its child: follow to the program itself, not to its children."""
    while Path(f"/proc/{pid}/comm").read_text() == "nsenter\n" and (child := only_child(pid)):
        pid = child
    return pid


@contextmanager
def sites(names: Sequence[str], directory: Path, behind: Mapping[str, str] | None = None) -> Iterator[Sites]:
    """A laboratory as long as the block lasts: a hub, and these, on one net. `behind`: of some sites the IPv6 network that
    lies behind them; the site is the first there, and SITE-iut the second."""
    nets: dict[str, Any] = {"wan": {"subnet4": "10.99.0.0/24"}}
    nodes: dict[str, Any] = {name: {"nets": ["wan"]} for name in (HUB, *names)}
    for number, (name, network) in enumerate((behind or {}).items()):
        net = f"lan{number}"
        nets[net] = {"subnet6": network}
        nodes[name] = {"nets": ["wan", net], "forward": True}
        nodes[f"{name}-iut"] = {"nets": [net], "gateway": name}
    file = {"nets": nets, "nodes": nodes}
    with Lab.of(json.dumps(file), name=unique("sites")) as lab:
        made = Sites(lab, directory)
        try:
            yield made
        finally:
            made.close()


async def relay(listener: socket.socket, port: int) -> None:
    """What comes to `listener` goes to 127.0.0.1:`port` of this network, and back."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
        except OSError:  # the broker is away: so are we, then
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, back), _pump(there, writer))

    async with await asyncio.start_server(carry, sock=listener) as server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while octets := await reader.read(1 << 17):
            writer.write(octets)
            await writer.drain()
    except OSError:
        pass  # one end is gone: the other hears of it by the end of its stream
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(relay(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))
