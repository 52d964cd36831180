"""Two nodes as processes, each over a convergence-layer agent of its own, all four on one bus. Agents, nodes and the bus are
killed in the middle of a stream: nothing acknowledged is lost, nothing is delivered twice.

ground -(bus)- its agent -(TCP, UDP)- rover's agent -(bus)- rover, which notes each delivery in the transaction that ends it.
"""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tumpline.bench.framework.agents import PROGRAM, AgentProcess, Agents, clean_environment
from tumpline.errors import NotReachableError, TumplineError
from tumpline.node.client import connect
from tumpline.testing import ledger
from tumpline.testing.interop.process import free_port

LEDGER = (sys.executable, "-m", "tumpline.testing.ledger")
TO = "dtn://rover/ledger"
MIB = 1 << 20
HANG_S = 90.0
POLL_S = 0.02
STOP_S = 20.0
SMALL, LARGE, LARGE_EVERY = 100, 150_000, 30
MOVED_MOST = 40  # deliveries between the stream's return after a kill and the next kill
pytestmark = pytest.mark.timeout(300)

NODE = """\
[node]
id = "dtn://{name}/"
state_dir = "state"
[store]
kind = "sqlite"
[[links]]
kind = "dbus_cl"
cl = "{cl}"
service = "dtn.{name}.{cl}"
bus = "{bus}"
authenticate = "none"
retry_s_first = 0.05
retry_s_max = 0.2
{more}
"""
PEER = """
[[peers]]
id = "dtn://{peer}/"
link = "dbus_cl"
address = "127.0.0.1:{port}"
"""
AGENT = """\
{cl}:
  bus_addr: '{bus}'
  bus_service: dtn.{name}.{cl}
  node_id: dtn://{name}/
  {tls}: false
{more}  init_listen:
    - address: 127.0.0.1
      port: {port}
"""
# Nobody may be told that a bundle has come whom no node has stored.
MORE = {"tcpcl": "  hold_received: true\n", "udpcl": ""}
TLS_KEY = {"tcpcl": "tls_enable", "udpcl": "dtls_enable_tx"}


class Program:
    """A process that says in one line that it is up, and can be killed and started again."""

    def __init__(self, name: str, directory: Path, argv: Sequence[str]) -> None:
        self._directory = directory / name
        self._directory.mkdir()
        self._argv = argv
        self._log = self._directory / "log"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=clean_environment(self._directory),
                cwd=self._directory,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), self._log.read_text()

    def wait_ready(self) -> None:
        """It was when it was started."""

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(STOP_S)
            assert process.stdout is not None
            process.stdout.close()

    def log_tail(self) -> str:
        return self._log.read_text()[-2000:]


class Network:
    """Everything that runs; by name, as victims are."""

    def __init__(self, directory: Path, cl: str, stack: ExitStack) -> None:
        """What was started ends with the stack."""
        self.bus = f"unix:path={directory}/bus"
        argv = [*PROGRAM, "bus", "--address", self.bus, "--print-address"]
        self.parts: dict[str, Program | AgentProcess] = {"bus": Program("busd", directory, argv)}
        ports = {name: free_port() for name in ("ground", "rover")}
        for name, port in ports.items():
            file = directory / f"{name}.yaml"
            file.write_text(AGENT.format(cl=cl, bus=self.bus, name=name, port=port, tls=TLS_KEY[cl], more=MORE[cl]))
            argv = [sys.executable, "-m", "tumpline.ui.agents", cl, "--config-file", str(file)]
            self.parts[f"agent of {name}"] = Program(f"{name}-{cl}", directory, argv)
        for part in self.parts.values():
            stack.callback(part.stop)
            part.start()
        agents = stack.enter_context(Agents(directory))
        more = {"ground": PEER.format(peer="rover", port=ports["rover"]), "rover": "[services.ledger]\n[services.echo]"}
        if cl == "udpcl":  # a datagram says nothing of who waits for an answer
            more["rover"] = PEER.format(peer="ground", port=ports["ground"]) + more["rover"]
        for name, program in (("rover", LEDGER), ("ground", PROGRAM)):
            config = NODE.format(name=name, cl=cl, bus=self.bus, more=more[name])
            self.parts[name] = agents.start(name, config, program=program)

    def node(self, name: str) -> AgentProcess:
        found = self.parts[name]
        assert isinstance(found, AgentProcess)
        return found

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{part.log_tail()}" for name, part in self.parts.items())

    async def until(self, is_so: Callable[[], Coroutine[Any, Any, bool]], otherwise: str) -> None:
        end = time.monotonic() + HANG_S
        while not await is_so():
            if time.monotonic() > end:
                raise TumplineError(f"{otherwise}\n{self.logs()}")
            await asyncio.sleep(POLL_S)

    async def noted(self) -> int:
        async with connect(self.node("rover").socket) as client:
            return int((await client.status())["services"][ledger.NAME]["noted"])

    async def is_empty(self) -> bool:
        """Whether no node holds a bundle."""
        for name in ("ground", "rover"):
            async with connect(self.node(name).socket) as client:
                if (await client.status())["store"]["bundles"]:
                    return False
        return True

    def ping(self) -> None:
        socket = str(self.node("ground").socket)
        argv = [*PROGRAM, "ping", "dtn://rover/echo", "--node", socket, "--count", "3", "--timeout", "60"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    async def send(self, number: int, octets: int) -> None:
        async with connect(self.node("ground").socket) as client:
            await client.send_adu(TO, ledger.payload(number, octets))

    async def rest(self) -> dict[str, int]:
        """Until nothing is under way; then what was noted."""
        await self.until(self.is_empty, "bundles are kept")
        for name in ("ground", "rover"):
            self.parts[name].stop()
        return await ledger.read_ledger(self.node("rover").directory / "state")


@contextmanager
def network(directory: Path, cl: str) -> Iterator[Network]:
    with ExitStack() as stack:
        yield Network(directory, cl, stack)


@pytest.mark.slow
async def test_pings_and_bundles_of_every_size_over_tcpcl_agents(tmp_path: Path) -> None:
    with network(tmp_path, "tcpcl") as made:
        await asyncio.to_thread(made.ping)
        for number, octets in enumerate((100, MIB, 32 * MIB)):
            await made.send(number, octets)
        assert await made.rest() == {"0": 1, "1": 1, "2": 1}
    assert not [path for path in tmp_path.glob("*/*") if path.name.startswith("tumpline-bus-")]


@pytest.mark.slow
async def test_pings_and_bundles_over_udpcl_agents(tmp_path: Path) -> None:
    with network(tmp_path, "udpcl") as made:
        await asyncio.to_thread(made.ping)
        for number, octets in enumerate((100, 60_000, MIB)):
            await made.send(number, octets)
        assert await made.rest() == {"0": 1, "1": 1, "2": 1}


class Stream:
    """Numbered ADUs from ground to rover, all the while."""

    def __init__(self, made: Network) -> None:
        self.sent: set[int] = set()
        self.acknowledged: set[int] = set()
        self._made = made
        self._numbers = count()
        self._goes_on = True

    async def run(self, victims: Sequence[str], chance: Random) -> None:
        """Send, kill the victims one after the other, and stop sending."""
        async with asyncio.TaskGroup() as tasks:
            for index in range(2):
                tasks.create_task(self._send(), name=f"client {index}")
            for victim in victims:
                await self._moved(chance.randrange(1, MOVED_MOST))
                part = self._made.parts[victim]
                part.kill()
                part.start()
                await asyncio.to_thread(part.wait_ready)
            await self._moved(MOVED_MOST)
            self._goes_on = False

    async def _send(self) -> None:
        while self._goes_on:
            async with connect(self._made.node("ground").socket) as client:
                while self._goes_on:
                    number = next(self._numbers)
                    self.sent.add(number)
                    octets = SMALL if number % LARGE_EVERY else LARGE
                    try:
                        await client.send_adu(TO, ledger.payload(number, octets))
                    except NotReachableError:
                        await asyncio.sleep(POLL_S)
                        break
                    self.acknowledged.add(number)

    async def _moved(self, deliveries: int) -> None:
        target = await self._made.noted() + deliveries

        async def enough() -> bool:
            return await self._made.noted() >= target

        await self._made.until(enough, "the stream came to a halt")


async def killed(directory: Path, victims: Sequence[str], seed: int) -> None:
    print(f"seed {seed}: {victims}")  # shown when the test fails
    with network(directory, "tcpcl") as made:
        stream = Stream(made)
        await stream.run(victims, Random(seed))
        noted = await made.rest()
    delivered = {int(key) for key in noted if key.isdecimal()}
    print(f"{len(stream.sent)} sent, {len(stream.acknowledged)} acknowledged, {len(delivered)} delivered")
    assert len(stream.acknowledged) > len(victims), "there was no stream"
    assert stream.acknowledged - delivered == set(), "lost"
    assert {key for key, times in noted.items() if times > 1} == set(), "delivered twice"
    assert delivered <= stream.sent
    assert ledger.DAMAGED not in noted


PARTS = ("agent of ground", "agent of rover", "bus", "rover", "ground")


@pytest.mark.slow
@pytest.mark.parametrize("victim", PARTS)
async def test_nothing_is_lost_or_delivered_twice_when_one_is_killed(tmp_path: Path, victim: str) -> None:
    await killed(tmp_path, [victim], time.time_ns() % 1_000_000)


@pytest.mark.soak
async def test_killed_fifty_times(tmp_path: Path) -> None:
    seed = time.time_ns() % 1_000_000
    await killed(tmp_path, Random(seed).choices(PARTS, k=50), seed)
