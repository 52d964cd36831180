"""The UDPCL agent on a bus: the older agent's names, signatures and signals, and what it lacked."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tumpline.drivers.dbus import BusConnection, BusError, MatchRule, Message, Variant
from tumpline.drivers.dbus.presence import Presence
from tumpline.drivers.dial import Address, parse_address
from tumpline.drivers.links._udpcl_config import UdpclConfig
from tumpline.errors import TumplineError
from tumpline.node.cla.holdings import HELD_OCTETS
from tumpline.node.cla.udpcl import UdpclAgent
from tumpline.node.cla.udpcl_settings import Poll, UdpclAgentSettings
from tumpline.testing.buses import dbus_daemon, dbus_send
from tumpline.testing.certificates import Authority
from tumpline.ui.dbus.udpcl import AGENT, AGENT_PATH, UdpclOnBus, serve_udpcl
from tumpline.wire.cbor import encode_uint
from tumpline.wire.dbus import Kind
from tumpline.wire.udpcl import Extensions, encode_extensions

HANG_S = 20.0
A, B = "dtn.a.udpcl", "dtn.b.udpcl"
pytestmark = pytest.mark.timeout(60)

# The older agent's interface: what a program finds that was written for it.
METHODS = {
    "stop": {("", "")},
    "listen": {("sia{sv}", "")},
    "listen_stop": {("sq", "")},
    "pmtud_start": {("sqi", "")},
    "recv_bundle_get_queue": {("", "as")},
    "recv_bundle_pop_data": {("s", "ay")},
    "recv_bundle_pop_file": {("ss", "")},
    "send_bundle_data": {("aya{sv}", "s")},
}
OUR_METHODS = {
    "pmtud_start": {("sq", "")},
    "shutdown": {("", "b")},
    "send_bundle_file": {("sa{sv}", "s")},
    "send_bundle_fd": {("ha{sv}", "s")},
    "recv_bundle_pop_fd": {("s", "h")},
}
SIGNALS = {
    "polling_received": "xissq",
    "recv_bundle_finished": "sta{sv}",
    "send_bundle_started": "st",
    "send_bundle_finished": "sts",
}
OUR_SIGNALS = {"pmtud_finished": "sqi"}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with dbus_daemon(tmp_path) as found:
        yield found


class Bench:
    """Agents that serve until the test ends, and somebody on the bus who calls them and remembers their signals."""

    def __init__(self, address: str, directory: Path, bus: BusConnection) -> None:
        self.address = address
        self.bus = bus
        self.directory = directory
        self.signals: list[tuple[str, str, tuple[Any, ...]]] = []  # of whom, member, values
        self._names: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.agents: dict[str, UdpclAgent] = {}

    async def start(self, name: str, link: dict[str, Any] | None = None, **settings: Any) -> UdpclAgent:
        found: asyncio.Future[UdpclAgent] = asyncio.get_running_loop().create_future()
        config = msgspec.convert(
            {"listen": "127.0.0.1:0", "listen_s": 0.0, "keepalive_s": 0.0, **(link or {})}, UdpclConfig
        )
        given = {"spool_directory": self.directory, "node_id": f"dtn://{name[4]}/", **settings}
        made = UdpclAgentSettings(link=config, bus_address=self.address, bus_service=name, **given)
        task = asyncio.get_running_loop().create_task(serve_udpcl(made, found.set_result), name=f"serve {name}")
        self._tasks[name] = task
        waiting: set[asyncio.Future[Any]] = {task, found}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task  # why it did not start
        agent = self.agents[name] = found.result()
        (self._names[name],) = await self.bus.call(
            "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetNameOwner", "s", name
        )
        return agent

    async def ended(self, name: str) -> None:
        async with asyncio.timeout(HANG_S):
            await self._tasks.pop(name)

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.bus.close()

    def heard(self, message: Message, values: tuple[Any, ...]) -> None:
        self.signals.append((message.sender, message.member, values))
        self._changed.set()

    def of(self, name: str, member: str) -> list[tuple[Any, ...]]:
        return [values for sender, heard, values in self.signals if (sender, heard) == (self._names[name], member)]

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        try:
            async with asyncio.timeout(HANG_S):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what or 'it'} did not come true; signals {self.signals[-6:]}") from None

    async def call(self, name: str, member: str, signature: str = "", *arguments: Any, **more: Any) -> Any:
        values = await self.bus.call(name, AGENT_PATH, AGENT, member, signature, *arguments, **more)
        return values[0] if values else None

    async def send(self, name: str, data: bytes, to: UdpclAgent, **parameters: Any) -> str:
        sent: str = await self.call(name, "send_bundle_data", "aya{sv}", data, params(to, **parameters))
        return sent

    async def received(self, name: str, count: int) -> list[tuple[Any, ...]]:
        await self.until(lambda: len(self.of(name, "recv_bundle_finished")) >= count, f"{count} bundles at {name}")
        return self.of(name, "recv_bundle_finished")


def params(to: UdpclAgent, **parameters: Any) -> dict[str, Variant]:
    where = parse_address(to.listening[0], 0)
    found = {"address": Variant("s", where.host), "port": Variant("i", where.port)}
    return found | {key: Variant("s" if isinstance(value, str) else "i", value) for key, value in parameters.items()}


@pytest_asyncio.fixture
async def bench(address: str, tmp_path: Path) -> AsyncIterator[Bench]:
    bus = await BusConnection.open(address)
    made = Bench(address, tmp_path, bus)
    await bus.subscribe(MatchRule(kind=Kind.SIGNAL, path=AGENT_PATH), made.heard)
    yield made
    await made.stop()


def bundle(octets: int, seed: int = 0) -> bytes:
    """Something whose first octet says that it is a bundle; no agent looks further."""
    return b"\x9f" + random.Random(seed).randbytes(octets - 1)


# ---- the interface ---------------------------------------------------------------------------------------------------


async def test_introspection_is_the_older_agents_and_what_it_lacked(bench: Bench) -> None:
    await bench.start(A)
    (xml,) = await bench.bus.call(A, AGENT_PATH, "org.freedesktop.DBus.Introspectable", "Introspect")
    methods: dict[str, set[tuple[str, str]]] = {}
    (interface,) = [each for each in ElementTree.fromstring(xml) if each.get("name") == AGENT]
    for method in interface.findall("method"):
        ways = ["".join(arg.get("type", "") for arg in method if arg.get("direction") == way) for way in ("in", "out")]
        methods.setdefault(method.get("name", ""), set()).add((ways[0], ways[1]))
    expected = {name: METHODS.get(name, set()) | OUR_METHODS.get(name, set()) for name in METHODS | OUR_METHODS}
    assert methods == expected
    signals = {each.get("name"): "".join(arg.get("type", "") for arg in each) for each in interface.findall("signal")}
    assert signals == SIGNALS | OUR_SIGNALS


async def test_plain_dbus_send_reaches_it(bench: Bench) -> None:
    await bench.start(A)
    done = await asyncio.to_thread(dbus_send, bench.address, A, AGENT_PATH, f"{AGENT}.recv_bundle_get_queue")
    assert (done.returncode, done.stderr) == (0, "")
    done = await asyncio.to_thread(
        dbus_send, bench.address, A, AGENT_PATH, f"{AGENT}.pmtud_start", "string:localhost.", "uint16:9"
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---- bundles ---------------------------------------------------------------------------------------------------------


async def test_a_bundle_goes_over(bench: Bench) -> None:
    a, b = await bench.start(A), await bench.start(B)
    data = bundle(500)
    sent = await bench.send(A, data, b)
    assert sent.isdecimal()
    ((number, octets, about),) = await bench.received(B, 1)
    assert octets == 500
    where = parse_address(a.listening[0], 0)
    assert (about["address"].value, about["port"].value) == (where.host, where.port)
    assert about["local_port"].value == parse_address(b.listening[0], 0).port
    assert await bench.call(B, "recv_bundle_get_queue") == [number]
    assert await bench.call(B, "recv_bundle_pop_data", "s", number) == data
    assert await bench.call(B, "recv_bundle_get_queue") == []
    await bench.until(lambda: bool(bench.of(A, "send_bundle_finished")))
    assert bench.of(A, "send_bundle_started") == [(sent, 500)]
    assert bench.of(A, "send_bundle_finished") == [(sent, 500, "success")]


async def test_many_bundles_in_a_row_and_the_agents_go_on(bench: Bench) -> None:
    """The older one, once its queue was with its pacer, stopped: three bundles were too many (§5)."""
    await bench.start(A)
    b = await bench.start(B)
    for number in range(200):
        await bench.send(A, bundle(300, number), b)
    taken = [await bench.call(B, "recv_bundle_pop_data", "s", each[0]) for each in await bench.received(B, 200)]
    assert sorted(taken) == sorted(bundle(300, number) for number in range(200))


async def test_a_large_bundle_goes_in_segments_and_waits_in_a_file(bench: Bench) -> None:
    await bench.start(A)
    b = await bench.start(B)
    data = bundle(1 << 20)
    path = bench.directory / "out"
    path.write_bytes(data)
    await bench.call(A, "send_bundle_file", "sa{sv}", str(path), params(b))
    with path.open("rb") as file:
        await bench.call(A, "send_bundle_fd", "ha{sv}", 0, params(b), fds=[file.fileno()])
    (one, _, _), (two, _, _) = await bench.received(B, 2)
    taken = bench.directory / "in"
    await bench.call(B, "recv_bundle_pop_file", "ss", one, str(taken))
    assert taken.read_bytes() == data
    with pytest.raises(BusError, match="exists"):
        await bench.call(B, "recv_bundle_pop_file", "ss", two, str(taken))
    message = Message(Kind.CALL, 0, AGENT_PATH, AGENT, "recv_bundle_pop_fd", destination=B).with_body("s", two)
    answer = await bench.bus.call_message(message)
    assert os.pread(answer.fds[0], 1 << 21, 0) == data
    os.close(answer.fds[0])
    assert await bench.call(B, "recv_bundle_get_queue") == []


async def test_what_nobody_takes_is_bounded(bench: Bench) -> None:
    await bench.start(A)
    b = await bench.start(B, memory_octets_most=1000 + 2 * HELD_OCTETS, spool_octets_most=300_000)
    for size in (600, 600, 200_000, 200_000, 300):
        await bench.send(A, bundle(size), b)
    found = await bench.received(B, 3)
    assert sorted(octets for _, octets, _ in found) == [300, 600, 200_000]
    assert b.counters["bundles_dropped"] == 2
    await bench.call(B, "recv_bundle_pop_data", "s", found[0][0])
    await bench.send(A, bundle(600), b)
    assert len(await bench.received(B, 4)) == 4


async def test_what_waits_to_be_sent_is_bounded(bench: Bench) -> None:
    await bench.start(A, memory_octets_most=1000)
    b = await bench.start(B)
    for _ in range(2):
        with pytest.raises(BusError, match="octets wait to be sent") as caught:
            await bench.send(A, bundle(2000), b)
        assert caught.value.name == "org.freedesktop.DBus.Error.LimitsExceeded"
    await bench.send(A, bundle(900), b)
    await bench.received(B, 1)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "tx_params name no address"),
        ({"address": Variant("i", 7)}, "address is 7"),
        ({"address": Variant("s", "127.0.0.1"), "port": Variant("i", 70_000)}, "port is 70000"),
        ({"address": Variant("s", "127.0.0.1"), "port": Variant("s", "x")}, "port is 'x'"),
        ({"address": Variant("s", "127.0.0.1"), "port": Variant("b", True)}, "port is True"),
        ({"address": Variant("s", "127.0.0.1"), "local_port": Variant("i", -1)}, "local_port is -1"),
        ({"address": Variant("s", "127.0.0.1"), "local_if": Variant("s", "lo")}, "local_if is 'lo'"),
        ({"address": Variant("s", "127.0.0.1"), "local_address": Variant("i", 1)}, "local_address is 1"),
    ],
)
async def test_parameters_that_cannot_be_are_named(bench: Bench, parameters: dict[str, Variant], said: str) -> None:
    await bench.start(A)
    with pytest.raises(BusError, match=re.escape(said)) as caught:
        await bench.call(A, "send_bundle_data", "aya{sv}", b"\x9f\xff", parameters)
    assert caught.value.name == "org.freedesktop.DBus.Error.InvalidArgs"


async def test_a_name_that_nobody_has_is_said(bench: Bench) -> None:
    await bench.start(A)
    with pytest.raises(BusError, match="cannot be resolved"):
        await bench.call(A, "send_bundle_data", "aya{sv}", b"\x9f\xff", {"address": Variant("s", "no.invalid")})


async def test_the_older_bundle_agents_whole_route_is_taken_for_parameters(bench: Bench) -> None:
    await bench.start(A)
    b = await bench.start(B)
    more = {"eid_pattern": ".*", "next_nodeid": "dtn://b/", "cl_type": "udpcl", "mtu": 1400}
    await bench.send(A, bundle(100), b, **more)
    await bench.received(B, 1)


async def test_bundles_without_an_address_go_to_the_default(bench: Bench) -> None:
    b = await bench.start(B)
    where = parse_address(b.listening[0], 0)
    await bench.start(A, default_to=where.host, default_port=where.port)
    await bench.call(A, "send_bundle_data", "aya{sv}", bundle(100), {})
    await bench.received(B, 1)


async def test_a_bundle_goes_from_where_it_is_told(bench: Bench) -> None:
    a, b = await bench.start(A), await bench.start(B)
    await bench.call(A, "listen", "sia{sv}", "127.0.0.2", 0, {})
    where = parse_address(a.listening[1], 0)
    await bench.send(A, bundle(100), b, local_address=where.host, local_port=where.port)
    ((_, _, about),) = await bench.received(B, 1)
    assert (about["address"].value, about["port"].value) == (where.host, where.port)


async def test_an_empty_bundle_or_one_too_long_is_refused_by_name(bench: Bench) -> None:
    await bench.start(A, {"bundle_octets": 5000})
    b = await bench.start(B)
    for data in (b"", bundle(5001)):
        with pytest.raises(BusError, match="is not sent over UDP here: 1 to 5000 are") as caught:
            await bench.send(A, data, b)
        assert caught.value.name == "org.tumpline.Error.TransferError"


async def test_a_bundle_that_is_not_there_is_named(bench: Bench) -> None:
    await bench.start(A)
    with pytest.raises(BusError, match="no received bundle '7'") as caught:
        await bench.call(A, "recv_bundle_pop_data", "s", "7")
    assert caught.value.name == "org.tumpline.Error.UnknownTransferError"


async def test_over_dtls_too(bench: Bench) -> None:
    """The older one's could not be loaded (§5)."""
    ca = Authority(bench.directory)
    for name in (A, B):
        await bench.start(name, {"tls": ca.issue(name[4], [f"dtn://{name[4]}/"])})
    b = bench.agents[B]
    data = bundle(100_000)
    await bench.send(A, data, b)
    ((number, _, _),) = await bench.received(B, 1)
    assert await bench.call(B, "recv_bundle_pop_data", "s", number) == data
    (talk,) = b.endpoint.talks.values()
    assert talk.channel is not None
    assert talk.machine.counts.plain_refused == 0


# ---- listening -------------------------------------------------------------------------------------------------------


async def test_listening_begins_and_ends(bench: Bench) -> None:
    a = await bench.start(A)
    await bench.call(A, "listen", "sia{sv}", "127.0.0.3", 0, {})
    assert len(a.listening) == 2
    with pytest.raises(BusError, match=r"nothing listens on 127\.0\.0\.3:9"):
        await bench.call(A, "listen_stop", "sq", "127.0.0.3", 9)
    await bench.call(A, "listen_stop", "sq", "127.0.0.3", 0)
    assert len(a.listening) == 1


async def test_a_port_in_use_is_explained(bench: Bench) -> None:
    a = await bench.start(A)
    where = parse_address(a.listening[0], 0)
    await bench.start(B)
    with pytest.raises(BusError, match="is in use by another program"):
        await bench.call(B, "listen", "sia{sv}", where.host, where.port, {})
    with pytest.raises(BusError, match="port 70000 is none"):
        await bench.call(B, "listen", "sia{sv}", where.host, 70_000, {})


async def test_groups_are_joined(bench: Bench) -> None:
    a = await bench.start(A, {"listen": []})
    member = {"addr": Variant("s", "224.0.1.20"), "iface": Variant("s", "lo")}
    await bench.call(A, "listen", "sia{sv}", "0.0.0.0", 0, {"multicast_member": Variant("aa{sv}", [member])})
    port = parse_address(a.listening[0], 0).port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        index = struct.pack("4s4si", b"\0" * 4, b"\0" * 4, socket.if_nametoindex("lo"))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, index)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sender.sendto(bundle(50), ("224.0.1.20", port))
    await bench.received(A, 1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Variant("s", "224.0.1.20"), "multicast_member is a list"),
        (Variant("as", ["224.0.1.20"]), "names a group as addr"),
        (Variant("aa{sv}", [{"iface": Variant("s", "lo")}]), "names a group as addr"),
        (
            Variant("aa{sv}", [{"addr": Variant("s", "224.0.1.20"), "iface": Variant("s", "no0")}]),
            "no network interface no0",
        ),
    ],
)
async def test_groups_that_cannot_be_are_named(bench: Bench, value: Variant, said: str) -> None:
    a = await bench.start(A)
    with pytest.raises(BusError, match=said):
        await bench.call(A, "listen", "sia{sv}", "0.0.0.0", 0, {"multicast_member": value})
    assert len(a.listening) == 1


# ---- polling ---------------------------------------------------------------------------------------------------------


async def test_who_is_polled_tells_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tumpline.node.cla.udpcl.POLL_FIRST_S", 0.0)
    b = await bench.start(B)
    where = parse_address(b.listening[0], 0)
    a = await bench.start(A, polls=(Poll(Address("localhost", where.port), 7.0),), link={"listen": "127.0.0.1:0"})
    await bench.until(lambda: bool(bench.of(B, "polling_received")))
    dtn_ms, interval_ms, node_id, host, port = bench.of(B, "polling_received")[0]
    assert dtn_ms > 800_000_000_000  # after 2025
    assert (interval_ms, node_id) == (7000, "dtn://a/")
    assert (host, port) == parse_address(a.listening[0], 0)


async def test_a_nameless_poll_is_told_too(bench: Bench) -> None:
    a = await bench.start(A)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(encode_extensions(Extensions(listen_ms=5000)), parse_address(a.listening[0], 0))
    await bench.until(lambda: bool(bench.of(A, "polling_received")))
    assert bench.of(A, "polling_received")[0][1:3] == (5000, "")


# ---- path MTU --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("sq",), ("sqi", 8)])
async def test_the_path_mtu_is_told_and_used(bench: Bench, arguments: tuple[Any, ...]) -> None:
    """The older one told nobody, used nothing of it, and took three arguments where its README gave two (§5)."""
    a, b = await bench.start(A), await bench.start(B)
    port = parse_address(b.listening[0], 0).port
    await bench.call(A, "pmtud_start", arguments[0], "localhost.", port, *arguments[1:])
    await bench.until(lambda: bool(bench.of(A, "pmtud_finished")))
    ((host, told, mtu),) = bench.of(A, "pmtud_finished")
    assert (host, told) == ("localhost.", port)
    assert mtu > 60_000 - 8192  # loopback takes 65507
    (talk,) = a.endpoint.talks.values()
    assert talk.machine.sizing.datagram_octets == mtu


async def test_a_datagram_too_long_for_the_path_ends_nothing(bench: Bench) -> None:
    """In the older one a first probe that was too long (EMSGSIZE) was the last that its conversation sent (§5)."""
    await bench.start(A, {"datagram_octets": 65_507})
    b = await bench.start(B, {"listen": "127.0.0.1:0"})
    port = parse_address(b.listening[0], 0).port
    await bench.call(A, "pmtud_start", "sq", "127.0.0.1", port)
    await bench.until(lambda: bool(bench.of(A, "pmtud_finished")))
    await bench.send(A, bundle(100_000), b)
    ((_, octets, _),) = await bench.received(B, 1)
    assert octets == 100_000


# ---- life ------------------------------------------------------------------------------------------------------------


async def test_shutdown_lets_go_what_waits_and_leaves_nothing(bench: Bench) -> None:
    before = set(bench.directory.iterdir())
    a, b = await bench.start(A), await bench.start(B)
    where = parse_address(a.listening[0], 0)
    for _ in range(20):
        await bench.send(A, bundle(50_000), b)
    await bench.call(A, "shutdown")
    await bench.ended(A)
    assert len(await bench.received(B, 20)) == 20
    await bench.call(B, "stop")
    await bench.ended(B)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(where)
    assert set(bench.directory.iterdir()) == before
    with pytest.raises(BusError, match=r"org\.freedesktop\.DBus|not provided"):
        await bench.call(A, "recv_bundle_get_queue")


async def test_an_agent_at_rest_shuts_down_at_once(bench: Bench) -> None:
    await bench.start(A)
    assert await bench.call(A, "shutdown") is True
    await bench.ended(A)


async def test_an_agent_that_ends_begins_nothing(bench: Bench) -> None:
    settings = UdpclAgentSettings(link=UdpclConfig(listen="127.0.0.1:0"), spool_directory=bench.directory)
    agent = UdpclOnBus(settings, Presence(bench.address)).agent
    await agent.start()
    agent.shutdown()
    with pytest.raises(TumplineError, match="shuts down"):
        agent.listen(Address("127.0.0.1", 0))
    await agent.close()


@pytest.mark.parametrize(
    "octets", [b"", b"\x00" * 4, b"\x06old", b"\x16\x03\x01", b"\x9f", b"\xa1\x02" + encode_uint(7)]
)
async def test_garbage_from_strangers_is_passed_over(bench: Bench, octets: bytes) -> None:
    a = await bench.start(A)
    await bench.start(B)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(octets, parse_address(a.listening[0], 0))
    await bench.send(B, bundle(100), a)
    found = await bench.received(A, 1)
    assert [length for _, length, _ in found if length == 100] or await bench.received(A, 2)
