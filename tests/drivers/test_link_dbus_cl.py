"""A node over agents on a real bus that behave as the older ones do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tumpline.drivers.dbus import BusConnection
from tumpline.drivers.links._api import LinkContext
from tumpline.drivers.links.dbus_cl import SPEC, DbusClLink
from tumpline.errors import TumplineError
from tumpline.machines.contract import Octets
from tumpline.machines.dbus_cl.effects import DATA_OCTETS_MOST
from tumpline.machines.effects import RefuseReason, Unit
from tumpline.testing.buses import dbus_daemon
from tumpline.testing.conformance import links as suite
from tumpline.testing.conformance.links import Check, Pair
from tumpline.testing.older_agents import OlderTcpclAgent, OlderUdpclAgent
from tumpline.testing.recording import MemoryFile, RecordingHost
from tumpline.wire.eid import Eid

A, B = "org.example.a", "org.example.b"
PORT_A, PORT_B = 1001, 1002
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with dbus_daemon(tmp_path) as found:
        yield found


class Agents:
    """Two older tcpcl-agents on one bus, which reach each other."""

    def __init__(self, address: str, spool: Path) -> None:
        self.address = address
        self.spool = spool
        self.buses: list[BusConnection] = []
        self.listeners: dict[tuple[str, int], OlderTcpclAgent] = {}

    async def start(self, name: str) -> OlderTcpclAgent:
        bus = await BusConnection.open(self.address)
        self.buses.append(bus)
        agent = OlderTcpclAgent(bus, "dtn://a/" if name == A else "dtn://b/", self.listeners)
        self.listeners["127.0.0.1", PORT_A if name == A else PORT_B] = agent
        await bus.request_name(name)
        return agent

    async def kill(self, agent: OlderTcpclAgent) -> None:
        """It is gone from one moment to the other; its peers see their sessions end."""
        for where in [where for where, each in self.listeners.items() if each is agent]:
            del self.listeners[where]
        for contact in agent.contacts.values():
            contact.agent.bus.unexport(contact.path)
        await agent.bus.close()
        for contact in list(agent.contacts.values()):
            peer, contact.peer = contact.peer, None
            if peer is not None:
                peer.peer = None
                peer.end()

    def config(self, service: str, **more: Any) -> dict[str, Any]:
        return {"cl": "tcpcl", "service": service, "bus": self.address, "spool": str(self.spool), **FAST, **more}

    async def stop(self) -> None:
        for bus in self.buses:
            await bus.close()


FAST = {"retry_s_first": 0.02, "retry_s_max": 0.1}


@pytest_asyncio.fixture
async def agents(address: str, tmp_path: Path) -> AsyncIterator[Agents]:
    made = Agents(address, tmp_path)
    yield made
    await made.stop()


class OlderPair(Pair):
    """The suite's pair, over two older agents."""

    many = 300  # a bus carries some ten messages for each

    def __init__(self, agents: Agents) -> None:
        self.agents = agents
        super().__init__(SPEC, agents.config(A), agents.config(B))

    async def start_b(self) -> None:
        await self.link_b.start(self.b)
        self.b.acknowledge = self.link_b.acknowledge
        self.address = f"127.0.0.1:{PORT_B}"

    def at(self, address: str) -> dict[str, Any]:
        return self.agents.config(B)

    async def all_ended(self) -> None:
        """Also those that their senders were told of before the other node has fetched them."""
        await super().all_ended()
        await self.b.until(lambda: len(self.b.arrivals) == list(self.a.ended.values()).count("acked"))
        await self.a.until(lambda: len(self.a.arrivals) == list(self.b.ended.values()).count("acked"))


# The others ask that a bundle is acknowledged only when the node says so, which the older agent's interface cannot; or that
# small ones come in no earlier than large ones which were sent before.
FITTING: tuple[Check, ...] = (
    suite.paths_name_the_peer,
    suite.small_units_arrive,
    suite.both_directions,
    suite.zero_length_unit,
    suite.many_units_in_order,
    suite.a_path_that_is_down_loses_units,
    suite.disconnect_ends_the_path_for_good,
)


@pytest.mark.parametrize("check", FITTING, ids=lambda check: check.__name__)
async def test_over_the_older_agent_what_fits_of_the_suite_holds(agents: Agents, check: Check) -> None:
    await agents.start(A)
    await agents.start(B)
    pair = OlderPair(agents)
    try:
        await pair.start()
        await check(pair)
    finally:
        await pair.stop()


async def test_large_units_of_every_kind_arrive(agents: Agents) -> None:
    _, _, pair = await linked(agents)
    content, in_memory = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(250_000)
    file = MemoryFile(content)
    units = [pair.unit(b"before"), pair.file_unit(file, len(content)), pair.unit(in_memory), pair.unit(b"after")]
    units += [pair.file_unit(file, 200_000, b"", b""), pair.file_unit(file, 0, b"", b"")]
    pair.offer(*units)
    await pair.all_ended()
    expected = [b"before", b"head" + content + b"tail", in_memory, b"after", content[:200_000], b""]
    assert sorted(pair.b.data) == sorted(expected)
    await pair.stop()
    file.release()
    assert file.readers == 0


async def linked(agents: Agents) -> tuple[OlderTcpclAgent, OlderTcpclAgent, OlderPair]:
    a, b = await agents.start(A), await agents.start(B)
    pair = OlderPair(agents)
    await pair.start()
    return a, b, pair


async def test_very_large_units_cross_as_files_that_are_gone_afterwards(agents: Agents) -> None:
    _, _, pair = await linked(agents)
    content = random.Random(1).randbytes(DATA_OCTETS_MOST + 5)
    file = MemoryFile(content)
    pair.offer(pair.file_unit(file, len(content)))
    await pair.all_ended()
    await pair.b.until(lambda: bool(pair.b.arrivals))
    assert pair.b.data == [b"head" + content + b"tail"]
    await pair.stop()
    assert [each.name for each in agents.spool.iterdir()] == ["bus"]


async def test_what_came_before_the_node_is_not_forgotten(agents: Agents) -> None:
    a, b = await agents.start(A), await agents.start(B)
    a._connect(None, "127.0.0.1", PORT_B)  # type: ignore[arg-type]
    (contact,) = a.contacts.values()
    for number in range(3):
        contact._send_data(None, b"%d" % number)  # type: ignore[arg-type]
    contact.work()
    (waiting,) = b.contacts.values()
    assert len(waiting.received) == 3
    pair = OlderPair(agents)
    await pair.start_b()
    await pair.b.until(lambda: len(pair.b.arrivals) == 3)
    assert pair.b.data == [b"0", b"1", b"2"]
    assert not waiting.received
    await pair.link_b.stop()


async def test_without_room_it_stays_in_the_agents_queue(agents: Agents) -> None:
    _, b, pair = await linked(agents)
    pair.b.refuse_sinks = RefuseReason.NO_RESOURCES
    pair.offer(pair.unit(bytes(200_000)))
    await pair.a.until(lambda: not pair.a.waiting)
    (contact,) = b.contacts.values()
    assert contact.received
    pair.b.refuse_sinks = None
    await pair.b.until(lambda: bool(pair.b.arrivals))
    assert len(pair.b.data[0]) == 200_000
    assert not contact.received
    await pair.stop()


async def test_a_store_that_fails_gets_the_bundle_again(agents: Agents) -> None:
    """The sender has been told that it came: nobody else has it."""
    _, _, pair = await linked(agents)
    pair.b.fail_sinks_at = 100_000
    pair.offer(pair.unit(bytes(200_000)))
    await pair.b.until(lambda: len(pair.b.sinks) >= 2)
    pair.b.fail_sinks_at = None
    await pair.b.until(lambda: bool(pair.b.arrivals))
    assert len(pair.b.data) == 1
    await pair.stop()


async def test_an_agent_that_dies_in_the_middle_loses_nothing_of_the_node(agents: Agents) -> None:
    a, _, pair = await linked(agents)
    (contact,) = a.contacts.values()
    contact.hold = True
    seqs = pair.offer(*(pair.unit(b"%d" % i) for i in range(200)))
    await contact.has_queued(64)
    await agents.kill(a)
    await pair.all_ended()
    assert {pair.a.ended[seq] for seq in seqs} == {"lost"}
    await pair.a.until(lambda: not pair.a.live)
    await agents.start(A)
    await pair.meet()
    pair.offer(pair.unit(b"again"))
    await pair.all_ended()
    await pair.b.until(lambda: pair.b.data[-1:] == [b"again"])
    await pair.stop()


async def test_a_unit_whose_payload_is_gone_is_refused_for_good(agents: Agents) -> None:
    _, _, pair = await linked(agents)
    file = MemoryFile(b"x" * 1000)
    for length in (2000, 200_000, DATA_OCTETS_MOST + 1):  # in the message, read by a thread, as a file
        pair.offer(pair.file_unit(file, length))
    (kept,) = pair.offer(pair.unit(b"kept"))
    await pair.a.until(lambda: not pair.a.waiting)
    assert sorted(pair.a.ended.values()) == ["acked", "not acceptable", "not acceptable", "not acceptable"]
    assert pair.a.ended[kept] == "acked"
    await pair.stop()
    assert file.readers == 1
    file.release()


async def test_the_agents_may_come_and_go_in_any_order(agents: Agents) -> None:
    pair = OlderPair(agents)
    await pair.start_b()
    await pair.link_a.start(pair.a)
    pair.link_a.connect(pair.address)
    a, b = await agents.start(A), await agents.start(B)
    await pair.meet()
    for _ in range(3):
        await agents.kill(b)
        await pair.a.until(lambda: not pair.a.live)
        await pair.b.until(lambda: not pair.b.live)
        b = await agents.start(B)
        await pair.meet()
        await agents.kill(a)
        await pair.a.until(lambda: not pair.a.live)
        a = await agents.start(A)
        await pair.meet()
    pair.offer(pair.unit(b"after all"))
    await pair.all_ended()
    await pair.b.until(lambda: pair.b.data == [b"after all"])
    await pair.stop()


async def test_a_bus_that_goes_and_comes_back(tmp_path: Path) -> None:
    with dbus_daemon(tmp_path) as address:
        agents = Agents(address, tmp_path)
        _, _, pair = await linked(agents)
    await pair.a.until(lambda: not pair.a.live)
    await pair.b.until(lambda: not pair.b.live)
    (tmp_path / "bus").unlink(missing_ok=True)
    with dbus_daemon(tmp_path) as address:
        agents.listeners.clear()
        await agents.start(A)
        await agents.start(B)
        await pair.meet()
        pair.offer(pair.unit(b"again"))
        await pair.all_ended()
        await pair.b.until(lambda: pair.b.data == [b"again"])
        assert "bus_unavailable" in pair.a.notice_text()
        await pair.stop()
        await agents.stop()


async def test_nothing_is_left_behind(agents: Agents) -> None:
    tasks = asyncio.all_tasks()
    _, _, pair = await linked(agents)
    pair.offer(pair.unit(b"x"))
    await pair.stop()
    left = {
        task for task in asyncio.all_tasks() - tasks if "a" in task.get_name().split() or "b" in task.get_name().split()
    }
    assert not left
    assert not pair.a.waiting


# ---- udpcl -----------------------------------------------------------------------------------------------------------


async def udpcl(agents: Agents, name: str, eid: str, **more: Any) -> tuple[DbusClLink, RecordingHost]:
    host = RecordingHost()
    config = msgspec.convert({**agents.config(name, **more), "cl": "udpcl"}, SPEC.config)
    link = DbusClLink(config, LinkContext(name, Eid.parse(eid), random.Random(1).random))
    await link.start(host)
    host.acknowledge = link.acknowledge
    return link, host


async def test_bundles_over_older_udpcl_agents(agents: Agents) -> None:
    buses = [await BusConnection.open(agents.address) for _ in range(2)]
    network: dict[tuple[str, int], OlderUdpclAgent] = {}
    made = [
        OlderUdpclAgent(bus, ("127.0.0.1", port), network) for bus, port in zip(buses, (PORT_A, PORT_B), strict=True)
    ]
    link_a, a = await udpcl(agents, A, "dtn://a/")
    link_b, b = await udpcl(agents, B, "dtn://b/")
    link_a.connect(f"127.0.0.1:{PORT_B}", Eid.parse("dtn://b/"))
    for bus, name in zip(buses, (A, B), strict=True):
        await bus.request_name(name)
    await a.until(lambda: len(a.live) == 2)
    (path,) = [info.path for info in a.up.values() if info.peer is not None]
    a.expect(path, [1, 2])
    link_a.offer(path, [Unit(1, b"small", Octets(b""), b""), Unit(2, b"", Octets(bytes(300_000)), b"")])
    await b.until(lambda: len(b.arrivals) == 2)
    assert sorted(map(len, b.data)) == [5, 300_000]
    assert (a.ended[1], a.ended[2]) == ("acked", "acked")
    assert made[0].sent[0][1]["port"].value == PORT_B
    await link_a.stop()
    await link_b.stop()
    for bus in buses:
        await bus.close()


# ---- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"service": "no name"}, "service: no name on a bus"),
        ({"retry_s_first": 9, "retry_s_max": 1}, "retry_s_first: longer than"),
        ({"cl": "ltp"}, "Invalid enum value"),
    ],
)
def test_what_cannot_be_is_said(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert({"cl": "tcpcl", "service": A, **wrong}, SPEC.config)


async def test_an_address_that_is_none_is_said_at_the_start(agents: Agents) -> None:
    config = msgspec.convert(agents.config(A, connect="x:y:z:w/ "), SPEC.config)
    link = DbusClLink(config, LinkContext("x", Eid.parse("dtn://a/"), random.random))
    with pytest.raises(TumplineError, match="is no address"):
        await link.start(RecordingHost())
    await link.stop()
