"""Exchanges with TCPCLv4 nodes that nobody here wrote, both ways, sessions opened by either side (docs/interop.md)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tumpline.bench.framework.agents import AgentProcess, Agents
from tumpline.node.client import Endpoint, connect, connect_sync
from tumpline.testing.interop.dtn7go import Dtn7Go
from tumpline.testing.interop.dtn7rs import Dtn7Rs
from tumpline.testing.interop.process import free_port, wait_for
from tumpline.testing.tshark import Capture

pytestmark = pytest.mark.interop

SMALL = b"over the portage"
# Text, since one of the interfaces takes nothing else; no piece of it is like another.
MIB = b"".join(b"%08d" % number for number in range(1 << 17))
CONFIG = """
[node]
id = "dtn://ours/"
state_dir = "state"
{node}
[store]
kind = "memory"
[[links]]
kind = "tcpcl4"
{where}
{link}
[[routes]]
to = "{peer}**"
via = "{peer}"
[services.echo]
"""
PeerClass = type[Dtn7Go] | type[Dtn7Rs]
# What the peers need where they do not keep a clause; docs/interop.md says which.
SETTINGS = {
    Dtn7Go: {"node": "", "link": "single_segment = true"},
    Dtn7Rs: {"node": "strictness = { require_primary_crc = false }", "link": "lenient_acks = true"},
}
# What tshark says of them, and of us only where we answer in kind.
COMPLAINTS: dict[PeerClass, set[str]] = {Dtn7Go: set(), Dtn7Rs: {"XFER_ACK does not have flags matching XFER_SEGMENT"}}
WHOLE_MOST = {Dtn7Go: 1_000_000, Dtn7Rs: 60_000}  # octets that fit the segment or transfer they take
SESS_TERM = "0x05"


@dataclass
class Together:
    """Our agent and the peer, with a session between them."""

    directory: Path
    kind: PeerClass
    peer_dials: bool
    stack: ExitStack
    port: int = field(default_factory=free_port)
    starts: int = 0

    def start(self) -> None:
        """Start both; whoever listens first."""
        if self.peer_dials:
            self._start_ours()
            self._start_peer()
        else:
            self._start_peer()
            self._start_ours()
        self.wait_up()

    def _start_ours(self) -> None:
        agents = self.stack.enter_context(Agents(self.directory))
        where = "listen" if self.peer_dials else "connect"
        config = CONFIG.format(
            peer=self.kind.node_id, where=f'{where} = "127.0.0.1:{self.port}"', **SETTINGS[self.kind]
        )
        self.agent: AgentProcess = agents.start("ours", config)

    def _start_peer(self) -> None:
        self.starts += 1
        self.peer = self.kind(self.directory / f"peer{self.starts}", self.port, dials=self.peer_dials)
        self.stack.callback(self.peer.stop)

    def restart_peer(self) -> None:
        """After it was stopped: a new process with nothing stored."""
        self._start_peer()

    def state(self) -> str | None:
        """Of the peer, as our agent has it."""
        with connect_sync(self.agent.socket) as agent:
            rows: list[dict[str, Any]] = agent.get("/v1/peers")["peers"]
        return next((row["state"] for row in rows if row["id"] == self.kind.node_id), None)

    def wait_up(self) -> None:
        wait_for(lambda: self.state() == "up" or None, "a session")

    def wait_down(self) -> None:
        wait_for(lambda: self.state() != "up" or None, "the end of the session")

    def fetched(self) -> bytes:
        """The next ADU that the peer's application gets."""
        return wait_for(self.peer.fetch, "the peer gets the bundle")


@pytest.fixture(params=[Dtn7Go, Dtn7Rs], ids=["dtn7-go", "dtn7-rs"])
def kind(request: pytest.FixtureRequest) -> PeerClass:
    given: PeerClass = request.param
    return given


@pytest.fixture(params=[False, True], ids=["we-dial", "peer-dials"])
def together(request: pytest.FixtureRequest, kind: PeerClass, tmp_path: Path) -> Iterator[Together]:
    with ExitStack() as stack:
        both = Together(tmp_path, kind, request.param, stack)
        both.start()
        yield both


async def receive(endpoint: Endpoint) -> bytes:
    adu = await endpoint.__anext__()
    await endpoint.done(adu.seq)
    return adu.payload


@pytest.mark.parametrize("payload", [SMALL, MIB], ids=["small", "1MiB"])
async def test_bundles_come(together: Together, payload: bytes) -> None:
    async with connect(together.agent.socket) as client, client.endpoint("app") as endpoint:
        together.peer.send("dtn://ours/app", payload)
        assert await receive(endpoint) == payload


async def test_bundles_go(together: Together) -> None:
    async with connect(together.agent.socket) as client:
        for number in range(10):
            payload = SMALL + str(number).encode()
            await client.send_adu(together.peer.endpoint, payload)
            assert together.fetched() == payload


async def test_the_largest_that_fits_goes_whole(together: Together) -> None:
    payload = MIB[: WHOLE_MOST[together.kind]]
    async with connect(together.agent.socket) as client:
        await client.send_adu(together.peer.endpoint, payload)
        assert together.fetched() == payload


async def test_1_mib_goes_in_fragments(together: Together) -> None:
    """It fits neither peer's MRU. Both hand fragments to their application as if each were an ADU."""
    async with connect(together.agent.socket) as client:
        await client.send_adu(together.peer.endpoint, MIB)
    parts: list[bytes] = []
    while sum(map(len, parts)) < len(MIB):
        parts.append(together.fetched())
    assert len(parts) > 1
    offset = 0
    while parts:  # they come in any order; the text says where each belongs
        part = next(part for part in parts if MIB.startswith(part, offset))
        parts.remove(part)
        offset += len(part)
    assert offset == len(MIB)


async def test_echo(together: Together) -> None:
    """Our echo service answers the peer's application."""
    together.peer.send("dtn://ours/echo", SMALL)
    assert together.fetched() == SMALL


@pytest.mark.parametrize("together", [False], ids=["we-dial"], indirect=True)
@pytest.mark.parametrize("kind", [Dtn7Go], ids=["dtn7-go"], indirect=True)
async def test_ping_of_dtn7_go(together: Together) -> None:
    """It answers four octets to the report-to, not the payload to the source: `tumpline ping` is no use there."""
    assert isinstance(together.peer, Dtn7Go)
    async with connect(together.agent.socket) as client, client.endpoint("app") as endpoint:
        await client.send_adu(together.peer.ping, SMALL, source="app", report_to="dtn://ours/app")
        assert await receive(endpoint) == b"pong"


def test_the_peer_ends_and_comes_back(together: Together) -> None:
    """However it ends, we notice; and once it is there again there is a session again, whoever dials."""
    together.peer.stop(signal.SIGTERM)
    together.wait_down()
    together.restart_peer()
    together.wait_up()


def test_we_end(kind: PeerClass, tmp_path: Path) -> None:
    """SESS_TERM goes, and the peer serves on."""
    with ExitStack() as stack:
        both = Together(tmp_path, kind, False, stack)
        with Capture(tmp_path / "session.pcapng", both.port) as capture:
            both.start()
            both.agent.stop()
        both.peer.check()
    kinds = capture.values("tcpcl.v4.mhdr.type")
    assert SESS_TERM in kinds, f"no SESS_TERM among the messages {kinds}"


def test_tshark_sees_what_was_sent(kind: PeerClass, tmp_path: Path) -> None:
    """A third implementation reads the whole session, and names what it does not like about it."""
    with ExitStack() as stack:
        both = Together(tmp_path, kind, False, stack)
        with Capture(tmp_path / "session.pcapng", both.port) as capture:
            both.start()
            both.peer.send("dtn://ours/echo", SMALL)
            assert both.fetched() == SMALL
    found = capture.find()
    assert found.bundles == 2, found
    assert set(found.complaints) <= COMPLAINTS[kind], found
