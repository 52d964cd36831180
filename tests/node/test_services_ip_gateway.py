"""IP over bundles between two nodes in memory, whose bundles travel when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from tumpline.drivers.ports.memory import MemoryPort, MemoryPortConfig
from tumpline.drivers.ports.tun import TunConfig
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu
from tumpline.node.services import ip_gateway
from tumpline.node.services.ip_gateway import (
    PAYLOAD_OCTETS_MOST,
    UNSTORED_OCTETS_MOST,
    GatewayConfig,
    IpGatewayService,
    RouteConfig,
)
from tumpline.testing.services import MemoryContext, MemoryNode
from tumpline.wire.eid import Eid

ROUTES = [RouteConfig(to="bbbb:1::/64", node="dtn://a/"), RouteConfig(to="bbbb:2::/64", node="dtn://b/")]


class Site:
    """A node with a gateway, and the machine behind its port."""

    def __init__(self, name: str, directory: Path, network: dict[Eid, MemoryNode]) -> None:
        self.node = MemoryNode(f"dtn://{name}/", directory / name, network)
        self.node.held_back = lambda _adu: True
        self.asked: list[TunConfig] = []
        self.service = IpGatewayService(GatewayConfig(routes=ROUTES, gather_s=0.0), self.open_port)
        self.context: MemoryContext

    async def start(self) -> None:
        self.context = await self.node.add(ip_gateway.SPEC, self.service)

    def open_port(self, config: TunConfig) -> MemoryPort:
        self.asked.append(config)
        return MemoryPort(MemoryPortConfig())

    @property
    def port(self) -> MemoryPort:
        assert isinstance(self.service.port, MemoryPort)
        return self.service.port

    def counter(self, name: str) -> int:
        return int(self.service.describe()[name])


@pytest.fixture
async def sites(tmp_path: Path) -> AsyncIterator[tuple[Site, Site]]:
    network: dict[Eid, MemoryNode] = {}
    pair = Site("a", tmp_path, network), Site("b", tmp_path, network)
    for site in pair:
        await site.start()
    yield pair
    for site in pair:
        await site.node.stop()


def packet(source: str, destination: str, octets: int = 100) -> bytes:
    return b"\x60" + bytes(7) + ip_address(source).packed + ip_address(destination).packed + bytes(octets - 40)


async def settle() -> None:
    """What the node does in its next turns is done."""
    for _ in range(5):
        await asyncio.sleep(0)


async def carry(sender: Site, receiver: Site, created_ms: int = 0) -> None:
    """A contact: all bundles that wait travel. 0: their source has no clock."""
    out, sender.node.out = sender.node.out, []
    for source, adu in out:
        receiver.node.arrive(source, adu, created_ms)
    await settle()


async def test_packets_wait_for_a_contact_and_go_on(sites: tuple[Site, Site]) -> None:
    a, b = sites
    request = [packet("bbbb:1::1", "bbbb:2::1", 40 + size) for size in range(3)]
    a.port.put(request)
    await settle()
    assert not b.port.taken
    (_, adu) = a.node.out[0]
    assert (adu.destination, adu.lifetime_ms) == (Eid.parse("dtn://b/ip"), 60_000)
    await carry(a, b)
    assert list(b.port.taken) == request
    b.port.put([packet("bbbb:2::1", "bbbb:1::1")])
    await carry(b, a)
    assert len(a.port.taken) == 1
    assert not b.node.waiting, "delivered once"
    assert (a.counter("packets_out"), b.counter("packets_in")) == (3, 3)


async def test_the_device_leads_to_the_networks_of_others(sites: tuple[Site, Site]) -> None:
    assert [site.asked[0].routes for site in sites] == [["bbbb:2::/64"], ["bbbb:1::/64"]]


async def test_what_came_too_late_is_not_delivered(sites: tuple[Site, Site]) -> None:
    a, b = sites
    a.port.put([packet("bbbb:1::1", "bbbb:2::1")])
    await carry(a, b, a.context.dtn_ms() - 61_000)
    a.port.put([packet("bbbb:1::1", "bbbb:2::2")])
    await carry(a, b, a.context.dtn_ms() - 30_000)
    assert len(b.port.taken) == 1
    assert b.counter("stale") == 1


async def test_what_the_store_has_no_room_for_is_dropped(sites: tuple[Site, Site]) -> None:
    a, _ = sites
    a.node.full = "the store is full"
    a.port.put([packet("bbbb:1::1", "bbbb:2::1")])
    await asyncio.sleep(0)
    assert a.counter("dropped") == 1
    a.node.refuse = "longer than the store"
    a.port.put([packet("bbbb:1::1", "bbbb:2::1")])
    await asyncio.sleep(0)
    assert a.counter("dropped") == 2
    assert [name for name, _ in a.node.notices] == ["ip_gateway_up", "ip_gateway_failed"]


async def test_a_node_that_holds_much_takes_no_packets(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = sites
    monkeypatch.setattr(a.context, "held_octets", lambda: (64 << 20) + 1)
    a.port.put([packet("bbbb:1::1", "bbbb:2::1")] * 2)
    assert (a.counter("dropped"), len(a.node.out)) == (2, 0)


async def test_a_slow_store_pauses_the_port(sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch) -> None:
    a, _ = sites
    answers: list[asyncio.Future[str]] = []

    def send(adu: Adu) -> asyncio.Future[str]:
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    monkeypatch.setattr(a.context, "send", send)
    while not a.port.describe()["is_paused"]:
        a.port.put([packet("bbbb:1::1", "bbbb:2::1", 60_000)])
    assert len(answers) * 60_000 > UNSTORED_OCTETS_MOST - 60_000
    for answer in answers:
        answer.set_result("stored")
    await asyncio.sleep(0)
    assert not a.port.describe()["is_paused"]


async def test_what_is_none_of_ours_is_counted(sites: tuple[Site, Site]) -> None:
    _, b = sites
    source, to = Eid.parse("dtn://a/ip"), Eid.parse("dtn://b/ip")
    b.node.arrive(source, Adu(to, Octets(b"\x01nothing")), 0)
    b.node.arrive(source, Adu(to, Octets(bytes(PAYLOAD_OCTETS_MOST + 1))), 0)
    await settle()
    assert (b.counter("malformed"), len(b.port.taken), len(b.node.waiting)) == (2, 0, 0)


async def test_packets_that_gather_go_when_their_time_has_come(tmp_path: Path) -> None:
    site = Site("a", tmp_path, {})
    site.service = IpGatewayService(GatewayConfig(routes=ROUTES, gather_s=0.01), site.open_port)
    await site.start()
    for _ in range(3):
        site.port.put([packet("bbbb:1::1", "bbbb:2::1")])
    assert not site.node.out
    async with asyncio.timeout(10):
        while not site.node.out:
            await asyncio.sleep(0)
    assert (site.counter("packets_out"), site.counter("bundles_out")) == (3, 1)
    await site.node.stop()


@pytest.mark.parametrize(
    ("routes", "sentence"),
    [
        ([{"to": "bbbb::1/64", "node": "dtn://a/"}], "'bbbb::1/64' is no network"),
        ([{"to": "bbbb::/64", "node": "a"}], "routes: "),
    ],
)
def test_mistakes_are_told_before_anything_starts(routes: list[dict[str, str]], sentence: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=sentence):
        msgspec.convert({"routes": routes}, GatewayConfig)


def test_mistakes_of_the_device_are_told_before_anything_starts() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"^tun.addresses: 'nonsense'"):
        msgspec.convert({"routes": [], "tun": {"addresses": ["nonsense"]}}, GatewayConfig)
