"""Nodes over our convergence-layer agents: what every bundle link holds, holds over a tcpcl-agent on a bus too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tumpline.drivers.dbus.presence import Presence
from tumpline.drivers.dbus.server import EmbeddedBus
from tumpline.drivers.links._tcpcl4_config import Tcpcl4Config
from tumpline.drivers.links.dbus_cl import SPEC
from tumpline.machines.dbus_cl.effects import DATA_OCTETS_MOST
from tumpline.node.cla.settings import TcpclAgentSettings
from tumpline.testing.conformance import links as suite
from tumpline.testing.conformance.links import Check, Pair
from tumpline.testing.recording import MemoryFile
from tumpline.ui.dbus.tcpcl import TcpclOnBus

A, B = "org.example.a", "org.example.b"
pytestmark = pytest.mark.timeout(60)


class Served:
    """One of our agents on a bus, in this process."""

    def __init__(self, name: str, address: str, spool: Path) -> None:
        self.presence = Presence(address, name)
        settings = TcpclAgentSettings(
            link=Tcpcl4Config(listen="127.0.0.1:0"),
            node_id=f"dtn://{name[-1]}/",
            spool_directory=spool,
        )
        self.on_bus = TcpclOnBus(settings, self.presence)
        self.agent = self.on_bus.agent

    async def start(self) -> None:
        await self.agent.start()
        await self.presence.start()

    async def stop(self) -> None:
        await self.agent.close()
        await self.presence.stop()


class OurPair(Pair):
    """The suite's pair, over two of our agents."""

    many = 300  # a bus carries some ten messages for each

    def __init__(self, address: str, spool: Path) -> None:
        config = {"cl": "tcpcl", "bus": address, "spool": str(spool), "authenticate": "none"}
        fast = {"retry_s_first": 0.02, "retry_s_max": 0.1}
        self.agents = [Served(name, address, spool) for name in (A, B)]
        super().__init__(SPEC, {**config, **fast, "service": A}, {**config, **fast, "service": B})

    async def start(self) -> None:
        for each in self.agents:
            await each.start()
        await super().start()

    async def start_b(self) -> None:
        await self.link_b.start(self.b)
        self.b.acknowledge = self.link_b.acknowledge
        self.address = self.agents[1].agent.listening[0]

    def at(self, address: str) -> dict[str, Any]:
        return self._config_b

    async def stop(self) -> None:
        await super().stop()
        for each in self.agents:
            await each.stop()


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[OurPair]:
    bus = EmbeddedBus.start(f"unix:path={tmp_path / 'bus'}")
    made = OurPair(bus.address, tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        bus.close()
    assert list(tmp_path.iterdir()) == []


# The others are about who owns the sockets, or ask that what was sent after something large does not overtake it.
FITTING: tuple[Check, ...] = (
    suite.paths_name_the_peer,
    suite.small_units_arrive,
    suite.both_directions,
    suite.zero_length_unit,
    suite.many_units_in_order,
    suite.acknowledged_only_when_told,
    suite.refused_units,
    suite.refused_before_it_arrives,
    suite.sink_that_fails,
    suite.graceful_stop_finishes_what_began,
    suite.disconnect_ends_the_path_for_good,
    suite.a_path_that_is_down_loses_units,
)


@pytest.mark.parametrize("check", FITTING, ids=lambda check: check.__name__)
async def test_over_our_agent_what_fits_of_the_suite_holds(pair: OurPair, check: Check) -> None:
    await check(pair)


async def test_large_units_cross_as_descriptors(pair: OurPair) -> None:
    file = MemoryFile(bytes(DATA_OCTETS_MOST + 1))
    pair.offer(pair.file_unit(file, DATA_OCTETS_MOST + 1), pair.unit(b"after"))
    await pair.all_ended()
    assert sorted(map(len, pair.b.data)) == [5, DATA_OCTETS_MOST + 9]
    assert [sink.announced for sink in pair.b.sinks] == [DATA_OCTETS_MOST + 9]
    file.release()
    assert file.readers == 0


async def test_a_node_that_goes_without_a_word_has_kept_nothing(pair: OurPair) -> None:
    """Its agent lives on: what the node had fetched and not kept is offered again, what waits is not lost."""
    pair.b.acknowledging = False
    seqs = pair.offer(pair.unit(b"1"), pair.unit(b"2"))
    await pair.b.until(lambda: len(pair.b.arrivals) == 2)
    await pair.link_b.stop(graceful=False)
    await pair.a.until(lambda: not pair.a.waiting)
    assert {pair.a.ended[seq] for seq in seqs} == {"retransmit"}
    await pair.restart_b()
    await pair.b.until(lambda: len(pair.b.live) == 1)
    again = pair.offer(pair.unit(b"1"), pair.unit(b"2"))
    await pair.all_ended()
    assert pair.b.data == [b"1", b"2"]
    assert {pair.a.ended[seq] for seq in again} == {"acked"}


async def test_what_came_while_no_node_was_there_waits(pair: OurPair) -> None:
    await pair.link_b.stop(graceful=True)
    pair.offer(pair.unit(b"waits"))
    await pair.all_ended()
    await pair.restart_b()
    await pair.b.until(lambda: pair.b.data == [b"waits"])


async def test_what_came_over_a_contact_that_is_closed_waits_too(pair: OurPair) -> None:
    await pair.link_b.stop(graceful=True)
    pair.offer(pair.unit(b"waits"), pair.unit(bytes(300_000)))
    await pair.all_ended()
    pair.link_a.disconnect(pair.address, None, "over")
    await pair.a.until(lambda: not pair.a.live)
    await pair.restart_b()
    await pair.b.until(lambda: len(pair.b.arrivals) == 2)
    assert sorted(map(len, pair.b.data)) == [5, 300_000]
