"""Bundles over a session of the packet overlay, on both brokers."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tumpline.drivers.links._amqp_link import AmqpLink
from tumpline.drivers.links._api import BundleLink, LinkContext
from tumpline.drivers.links.amqp import SPEC
from tumpline.drivers.overlay.events import Congested, Drained
from tumpline.errors import ConfigError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Unit
from tumpline.testing.conformance.links import Check, Pair, checks_of, run_with
from tumpline.testing.embedded_broker import embedded_broker
from tumpline.testing.rabbitmq import Vhost
from tumpline.testing.recording import HANG_S, RecordingHost
from tumpline.ui.cli.reach import unreachable
from tumpline.wire.eid import Eid

pytestmark = pytest.mark.timeout(60)


class Members(Pair):
    """The suite's pair: b is found by its name in the session."""

    remedy = "join under another name"

    def __init__(self, url: str, **more: Any) -> None:
        both = {"url": url, "discover": False, **more}
        super().__init__(SPEC, {"member": "a", **both}, {"member": "b", **both})

    def at(self, address: str) -> dict[str, Any]:
        return self._config_b


@pytest.fixture
async def embedded() -> AsyncIterator[str]:
    async with embedded_broker(0) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.port}/"


@pytest.mark.parametrize("check", checks_of(SPEC), ids=lambda check: check.__name__)
async def test_it_conforms_over_the_embedded_broker(embedded: str, check: Check) -> None:
    await run_with(check, lambda: Members(embedded))


@pytest.mark.parametrize("check", checks_of(SPEC), ids=lambda check: check.__name__)
async def test_it_conforms_over_rabbitmq(rabbitmq: Vhost, check: Check) -> None:
    await run_with(check, lambda: Members(rabbitmq.uri))


# ---- what is particular to it ----------------------------------------------------------------------------------------


class Nodes:
    """Links of one session; each begins by itself."""

    def __init__(self) -> None:
        self.links: list[BundleLink] = []

    async def join(self, member: str, url: str, **more: Any) -> tuple[BundleLink, RecordingHost]:
        config = msgspec.convert({"member": member, "url": url, **more}, SPEC.config)
        chance = random.Random(member).random
        link, host = SPEC.open(config, LinkContext(member, Eid.parse(f"dtn://{member}/"), chance)), RecordingHost()
        self.links.append(link)
        await link.start(host)
        host.acknowledge = link.acknowledge
        return link, host

    async def stop(self) -> None:
        for link in self.links:
            await link.stop(graceful=False)


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    made = Nodes()
    yield made
    await made.stop()


def has_neighbours(host: RecordingHost, count: int) -> bool:
    return len(host.live) == count


async def meet_again(link: BundleLink, member: str) -> None:
    """Until the link sees that member."""
    async with asyncio.timeout(HANG_S):
        while member not in [each["name"] for each in link.describe()["overlay"]["member"]["members"]]:
            await asyncio.sleep(0.01)


async def offered(link: BundleLink, host: RecordingHost, data: bytes) -> int:
    seq = len(host.ended) + len(host.waiting) + 1
    host.expect(host.live[-1], [seq])
    link.offer(host.live[-1], [Unit(seq, b"", Octets(data), b"")])
    return seq


async def test_members_that_are_nodes_find_each_other(embedded: str, nodes: Nodes) -> None:
    hosts = [(await nodes.join(name, embedded))[1] for name in ("a", "b", "c")]
    for host in hosts:
        await host.until(partial(has_neighbours, host, 2), "two neighbours")
    found = [sorted(str(info.peer) for info in host.up.values()) for host in hosts]
    assert found == [["dtn://b/", "dtn://c/"], ["dtn://a/", "dtn://c/"], ["dtn://a/", "dtn://b/"]]


async def test_one_that_does_not_look_is_found(embedded: str, nodes: Nodes) -> None:
    _, a = await nodes.join("a", embedded, discover=False)
    _, b = await nodes.join("b", embedded, discover=False)
    _, c = await nodes.join("c", embedded, connect="b")
    await b.until(lambda: len(b.live) == 1, "c at b")
    await a.until(lambda: len(a.live) == 1, "c at a, who is looked for too")
    assert [str(info.peer) for info in b.up.values()] == ["dtn://c/"]
    assert len(c.live) == 2


async def test_without_a_broker_it_waits(nodes: Nodes) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"amqp://guest:guest@127.0.0.1:{port}/"
    link, a = await nodes.join("a", url)
    assert "connection_failed" in a.notice_text()
    assert "guest:guest" not in a.notice_text()
    assert link.describe()["listening"] == []
    (why,) = unreachable([{"name": "amqp", **link.describe()}])
    assert why.startswith("amqp: no session with ")
    assert "attempt 2 in " in why
    async with embedded_broker(port):
        await nodes.join("b", url)
        await a.until(lambda: len(a.live) == 1, "b")
        assert link.describe()["dialling"] == []
        await nodes.stop()


async def test_an_interruption_ends_no_path(nodes: Nodes) -> None:
    """What was under way goes on where it was, once both are there again."""
    async with embedded_broker(0) as server:
        port = server.port
        url = f"amqp://guest:guest@127.0.0.1:{port}/"
        (link_a, a), (_, b) = await nodes.join("a", url), await nodes.join("b", url)
        await a.until(lambda: bool(a.live), "a path")
        b.acknowledging = False
        first = await offered(link_a, a, b"before")
        await b.until(lambda: bool(b.arrivals), "an arrival")
    await a.until(lambda: "broker_lost" in a.notice_text(), "the loss")
    second = await offered(link_a, a, b"meanwhile" * 20_000)
    b.acknowledging = True
    path, arrival = b.arrivals[0]
    b.acknowledge(path, [arrival.transfer])
    async with embedded_broker(port):
        await a.until(lambda: len(a.ended) == 2, "both ends")
        assert (a.ended[first], a.ended[second]) == ("acked", "acked")
        assert (len(a.up), len(b.up), a.down, b.down) == (1, 1, {}, {})
        assert b.data == [b"before", b"meanwhile" * 20_000]
        await nodes.stop()


async def test_a_broker_that_takes_no_more_is_waited_for(embedded: str, nodes: Nodes) -> None:
    (link_a, a), (_, b) = await nodes.join("a", embedded), await nodes.join("b", embedded)
    await a.until(lambda: bool(a.live), "a path")
    assert isinstance(link_a, AmqpLink)
    link_a._heard(Congested())
    seq = await offered(link_a, a, b"waits")
    for _ in range(100):
        await asyncio.sleep(0)
    assert not a.ended
    assert not b.arrivals
    link_a._heard(Drained())
    await a.until(lambda: seq in a.ended, "its end")
    assert b.data == [b"waits"]


async def test_who_leaves_takes_its_path_along(embedded: str, nodes: Nodes) -> None:
    (link_a, a), (link_b, b) = await nodes.join("a", embedded), await nodes.join("b", embedded)
    await a.until(lambda: bool(a.live), "a path")
    b.acknowledging = False
    lost = await offered(link_a, a, b"lost")
    await b.until(lambda: bool(b.arrivals), "an arrival")
    await link_b.stop(graceful=False)
    await a.until(lambda: not a.live, "the end of the path")
    assert a.ended == {lost: "lost"}
    assert link_a.describe()["sessions"] == []
    again, _ = await nodes.join("b", embedded)
    await a.until(lambda: bool(a.live), "another path")
    assert len(link_a.describe()["sessions"]) == len(again.describe()["sessions"]) == 1


async def test_who_ended_the_session_is_left_alone_until_it_asks(nodes: Nodes) -> None:
    async with embedded_broker(0) as server:
        port = server.port
        url = f"amqp://guest:guest@127.0.0.1:{port}/"
        (link_a, a), (link_b, b), (_, c) = [await nodes.join(name, url) for name in ("a", "b", "c")]
        await a.until(lambda: len(a.live) == 2, "both paths")
        path = next(path for path, info in a.up.items() if str(info.peer) == "dtn://b/")
        link_a.disconnect(None, path, "the contact is over")
        await b.until(lambda: len(b.down) == 1, "the end of the path")
        assert a.down == {path: "the contact is over"}
    await a.until(lambda: "broker_lost" in a.notice_text(), "the loss")
    await b.until(lambda: "broker_lost" in b.notice_text(), "the loss")
    async with embedded_broker(port):
        await meet_again(link_a, "b")
        await meet_again(link_b, "a")
        seq = await offered(link_a, a, b"to c, which is there again")
        await a.until(lambda: seq in a.ended, "its end")
        assert (len(a.up), len(b.up), len(c.up)) == (2, 2, 2)
        link_a.connect("b")
        await a.until(lambda: len(a.live) == 2, "another path")
        await nodes.stop()


async def test_members_of_other_keys_are_no_neighbours(embedded: str, nodes: Nodes, tmp_path: Path) -> None:
    keys = []
    for number in range(2):
        keys.append(tmp_path / f"key{number}")
        keys[-1].write_bytes(bytes([number]) * 32)
    _, a = await nodes.join("a", embedded, key=str(keys[0]))
    await nodes.join("b", embedded, key=str(keys[1]))
    await nodes.join("c", embedded)
    _, d = await nodes.join("d", embedded, key=str(keys[0]))
    await a.until(lambda: bool(a.live), "d")
    await a.until(lambda: a.notice_text().count("peer_refused") == 2, "word of the others")
    assert [str(info.peer) for info in a.up.values()] == ["dtn://d/"]
    await d.until(lambda: bool(d.live), "a")
    (info,) = d.up.values()
    assert (info.authenticated, info.security) == (True, "AES-256-GCM, given key")


async def test_once_there_are_pins_only_those_count(embedded: str, nodes: Nodes, tmp_path: Path) -> None:
    link_b, _ = await nodes.join("b", embedded, identity=str(tmp_path / "identity"))
    pins = {"b": link_b.describe()["overlay"]["member"]["identity"]}
    await nodes.join("c", embedded)
    _, a = await nodes.join("a", embedded, pins=pins)
    await a.until(lambda: len(a.live) == 2, "both")
    assert {str(info.peer): info.authenticated for info in a.up.values()} == {"dtn://b/": True, "dtn://c/": False}


async def test_another_node_than_expected_makes_no_route(embedded: str, nodes: Nodes) -> None:
    link_a, a = await nodes.join("a", embedded, discover=False)
    link_a.connect("b", Eid.parse("dtn://other/"))
    await nodes.join("b", embedded)
    await a.until(lambda: bool(a.live), "a path")
    assert not a.up[a.live[0]].authenticated
    assert "the peer is dtn://b/, not dtn://other/" in a.notice_text()


async def test_a_key_that_is_none_is_named(embedded: str, nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"key {tmp_path}/none: "):
        await nodes.join("a", embedded, key=str(tmp_path / "none"))


@pytest.mark.parametrize(("member", "sentence"), [("a.b", "member: '.' cannot stand in a name"), ("", "member: ")])
def test_names_that_are_none_are_told(member: str, sentence: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=sentence):
        msgspec.convert({"member": member, "url": "amqp://broker/"}, SPEC.config)


def test_it_needs_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMQP_URL", raising=False)
    with pytest.raises(msgspec.ValidationError, match=r"url: where is the broker\?"):
        msgspec.convert({"member": "a"}, SPEC.config)


def test_mistakes_of_its_port_are_told() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"^tun.addresses: 'nonsense'"):
        msgspec.convert({"member": "a", "url": "amqp://broker/", "tun": {"addresses": ["nonsense"]}}, SPEC.config)
