"""One agent with hundreds of TCPCLv4 neighbours: what they cost when nothing happens, and whether all are served alike."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tumpline.bench.framework.agents import AgentProcess, Agents
from tumpline.bench.framework.chain import address_of
from tumpline.machines.tcpcl4 import events as ev
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.session import Session
from tumpline.node.client import connect_sync

HANG_S = 120.0
WAKE_S = 0.05  # the peers look at their timers this often
RECEIVE_OCTETS = 32 << 10  # of a peer's socket: little waits below the sessions, most in the agent
BUNDLE_OCTETS = 4096
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

CONFIG = """\
[node]
id = "dtn://hub/"
state_dir = "state"

[store]
kind = "memory"

[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"

[links.limits]
max_per_ip = 1024
max_per_ip_burst = 1024
max_handshakes = 1024
"""


class Peer:
    """One neighbour: a session and its socket."""

    def __init__(self, name: str, where: tuple[str, int]) -> None:
        self.received = 0
        self.is_up = False
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_OCTETS)
        self.sock.connect(where)
        self.sock.setblocking(False)
        self.session = Session(SessionConfig(node_id=f"dtn://{name}/", segment_mru=1 << 20), Role.ACTIVE, lambda: 0.5)
        self._rest = b""
        self.session.connected(time.monotonic())
        self.write()

    def read(self) -> None:
        data = self._rest + self.sock.recv(64 << 10)
        if len(data) == len(self._rest):
            raise ConnectionError("the agent closed a session")
        taken = -1
        while taken and data:
            taken = self.session.receive(memoryview(data), time.monotonic())
            data = data[taken:]
        self._rest = data
        for event in self.session.events():
            if isinstance(event, ev.SessionEstablished):
                self.is_up = True
            elif isinstance(event, ev.TransfersReceived):
                self.received += len(event.transfers)
                self.session.acknowledge([number for number, _ in event.transfers], time.monotonic())
        self.write()

    def write(self) -> None:
        for piece in self.session.data_to_send(1 << 16, time.monotonic()):
            assert isinstance(piece, bytes)
            assert self.sock.send(piece) == len(piece), "acknowledgements fill the socket"

    def tick(self) -> None:
        due = self.session.next_timeout()
        if due is not None and due <= time.monotonic():
            self.session.handle_timeout(time.monotonic())
            self.write()


class Peers:
    """All of them, driven by one loop in this process."""

    def __init__(self, count: int, where: tuple[str, int]) -> None:
        self._selector = selectors.DefaultSelector()
        self.all: list[Peer] = []
        for number in range(count):
            peer = Peer(f"p{number}", where)
            self.all.append(peer)
            self._selector.register(peer.sock, selectors.EVENT_READ, peer)
        waiting = set(self.all)
        while waiting:
            for key, _ in self._selector.select(HANG_S):
                key.data.read()
                if key.data.is_up:  # it reads on when all are up, so that nobody has a head start
                    waiting.remove(key.data)
                    self._selector.unregister(key.fileobj)
        for peer in self.all:
            self._selector.register(peer.sock, selectors.EVENT_READ, peer)

    def run(self, done: Callable[[], bool], most_s: float = HANG_S) -> bool:
        end = time.monotonic() + most_s
        while not done():
            if time.monotonic() > end:
                return False
            for key, _ in self._selector.select(WAKE_S):
                key.data.read()
            for peer in self.all:
                peer.tick()
        return True

    def counts(self) -> list[int]:
        return [peer.received for peer in self.all]

    def close(self) -> None:
        self._selector.close()
        for peer in self.all:
            peer.sock.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[AgentProcess]:
    with Agents(tmp_path) as agents:
        yield agents.start("hub", CONFIG)


def where(hub: AgentProcess) -> tuple[str, int]:
    host, port = address_of(hub).rsplit(":", 1)
    return host, int(port)


def cpu_s(hub: AgentProcess) -> float:
    """Processor time that the agent has used."""
    fields = Path(f"/proc/{hub.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_kib(hub: AgentProcess) -> int:
    return int(Path(f"/proc/{hub.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def fill(hub: AgentProcess, peers: int, each: int) -> None:
    """Bundles for neighbours that are not there yet."""
    with connect_sync(hub.socket, timeout_s=HANG_S) as client:
        for number in range(peers):
            asked = {"to": f"dtn://p{number}/sink", "count": each, "size": BUNDLE_OCTETS}
            for _ in client.stream("/v1/source", asked):
                pass


def check_idle(hub: AgentProcess, count: int, seconds: float) -> tuple[float, float]:
    """Returns: share of one processor while idle, KiB of a session."""
    before_kib = resident_kib(hub)
    peers = Peers(count, where(hub))
    try:
        session_kib = (resident_kib(hub) - before_kib) / count
        begin, used_s = time.monotonic(), cpu_s(hub)
        peers.run(lambda: False, seconds)
        share = (cpu_s(hub) - used_s) / (time.monotonic() - begin)
        assert all(peer.session.established for peer in peers.all)
    finally:
        peers.close()
    return share, session_kib


def check_service(hub: AgentProcess, count: int, each: int) -> float:
    """Returns: the fewest bundles that a neighbour had got, over the most, when half of all had come."""
    fill(hub, count, each)
    peers = Peers(count, where(hub))
    try:
        assert peers.run(lambda: sum(peers.counts()) >= count * each // 2)
        half = peers.counts()
        assert peers.run(lambda: sum(peers.counts()) >= count * each), "not everything came"
        assert peers.counts() == [each] * count
    finally:
        peers.close()
    return min(half) / max(half)


def test_idle_sessions_cost_little(hub: AgentProcess) -> None:
    share, session_kib = check_idle(hub, 60, 2.0)
    assert share < 0.03
    assert session_kib < 100


def test_neighbours_with_backlog_are_served_alike(hub: AgentProcess) -> None:
    assert check_service(hub, 40, 100) > 0.5


@pytest.mark.soak
def test_500_idle_sessions(hub: AgentProcess) -> None:
    share, session_kib = check_idle(hub, 500, 150.0)  # more than two keepalives of each
    print(f"idle: {share:.2%} of one processor, {session_kib:.1f} KiB a session")
    assert share < 0.03
    assert session_kib < 100


@pytest.mark.soak
def test_500_neighbours_with_backlog(hub: AgentProcess) -> None:
    ratio = check_service(hub, 500, 100)
    print(f"served: the fewest over the most {ratio:.2f}")
    assert ratio > 0.5
