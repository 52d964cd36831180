"""Radios of distant places exchange 6LoWPAN and CoAP through agents and a broker, whatever formats the agents speak."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.amqp import AmqpConnection, AmqpUrl, Delivery
from tumpline.drivers.amqp_broker import BrokerServer
from tumpline.drivers.dial import Address
from tumpline.drivers.links._amqp_config import AmqpConfig
from tumpline.drivers.links._api import LinkContext
from tumpline.drivers.links.amqp import SPEC
from tumpline.drivers.overlay.router import RouterAttachment
from tumpline.drivers.ports.serial import SerialConfig
from tumpline.machines.amqp_broker import BrokerConfig
from tumpline.node.overlay.router import RouterWish, router_settings_of
from tumpline.testing.lowpan import CONTENT
from tumpline.testing.older_members import OlderMember, OlderRouter, Plan
from tumpline.testing.rabbitmq import Vhost
from tumpline.testing.radio import LQI, RSS_DBM, Air, Mote, Probe, ProbeKind, UdpMote
from tumpline.testing.radio_agents import ANSWER_S, OlderPlace, RadioAgent, radio_agent, started
from tumpline.testing.recording import RecordingHost
from tumpline.wire.eid import Eid

NEAR, FAR = bytes.fromhex("00124b0000000001"), bytes.fromhex("00124b0000000002")
LONG = bytes(range(256)) * 3  # nine frames
SNIFFER = ProbeKind(is_passive=True)
RESOURCES = {"hello": b"over the hills", "long": LONG}
PAIRS = [("auto", "auto"), ("auto", "v1"), ("auto", "v0"), ("v1", "v1"), ("v0", "v0"), ("binary", "binary")]


async def get(mote: Mote, path: str) -> bytes:
    async with asyncio.timeout(ANSWER_S):
        answer = await mote.get(FAR, path)
    assert answer.code == CONTENT
    return answer.payload


async def two(stack: AsyncExitStack, url: str, directory: Path, one: str, other: str) -> tuple[RadioAgent, RadioAgent]:
    near = await stack.enter_async_context(radio_agent(url, "near", directory / "ttyNEAR", format=one))
    far = await stack.enter_async_context(radio_agent(url, "far", directory / "ttyFAR", format=other))
    await near.until(lambda: "far" in near.members)
    await far.until(lambda: "near" in far.members)
    return near, far


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_two_radios_exchange_coap(rabbitmq: Vhost, tmp_path: Path, one: str, other: str) -> None:
    async with AsyncExitStack() as stack:
        near, far = await two(stack, rabbitmq.uri, tmp_path, one, other)
        client, server = Mote(near.air, NEAR), Mote(far.air, FAR, RESOURCES)
        assert await get(client, "hello") == b"over the hills"
        assert await get(client, "long") == LONG
        # Each probe acknowledged at once, for the mote that is far away: nothing was repeated, nothing came twice.
        assert client.unacknowledged == server.unacknowledged == client.duplicates == server.duplicates == 0
        assert (client.transmissions, near.port["packets_out"], far.port["packets_in"]) == (2, 2, 2)
        assert server.transmissions == far.port["packets_out"] == near.port["packets_in"] == 10


@pytest.mark.parametrize("generation", [1, 0])
async def test_an_older_agents_radio(rabbitmq: Vhost, tmp_path: Path, generation: int) -> None:
    plan = Plan("far", generation=generation, is_serial=True)
    async with radio_agent(rabbitmq.uri, "near", tmp_path / "ttyNEAR") as near:
        older = OlderMember(rabbitmq.uri, plan)
        await asyncio.to_thread(older.__enter__)
        place = OlderPlace(older)
        bridge = asyncio.get_running_loop().create_task(place.run())
        try:
            await near.until(lambda: "far" in near.members)
            client, server = Mote(near.air, NEAR), Mote(place.air, FAR, RESOURCES)
            assert await get(client, "hello") == b"over the hills"
            assert await get(client, "long") == LONG
            assert client.duplicates == server.duplicates == older.undecodable == 0
        finally:
            bridge.cancel()
            await asyncio.to_thread(older.__exit__)


@pytest.mark.parametrize(("one", "other"), [("auto", "auto"), ("v1", "v1"), ("v0", "v0"), ("auto", "v1")])
async def test_beside_an_older_router(rabbitmq: Vhost, tmp_path: Path, one: str, other: str) -> None:
    """It floods what comes under older keys; who has heard it the direct way does not hear it again."""
    router = OlderRouter(rabbitmq.uri, [["near", "far"]])
    await asyncio.to_thread(router.__enter__)
    try:
        async with AsyncExitStack() as stack:
            near, far = await two(stack, rabbitmq.uri, tmp_path, one, other)
            client, server = Mote(near.air, NEAR), Mote(far.air, FAR, RESOURCES)
            assert await get(client, "hello") == b"over the hills"
            assert await get(client, "long") == LONG
            assert client.duplicates == server.duplicates == 0
            assert (far.port["packets_in"], near.port["packets_in"]) == (2, 10)
    finally:
        await asyncio.to_thread(router.__exit__)


@pytest.mark.parametrize(("one", "other"), [("v1", "v0"), ("v0", "v1"), ("auto", "v0"), ("auto", "auto"), ("v1", "v1")])
async def test_through_the_router(rabbitmq: Vhost, tmp_path: Path, one: str, other: str) -> None:
    """Which joins those who have no format in common."""
    router = RouterAttachment(router_settings_of(RouterWish(url=rabbitmq.uri, name="router")), lambda _: None)
    try:
        await router.start()
        async with AsyncExitStack() as stack:
            near, far = await two(stack, rabbitmq.uri, tmp_path, one, other)
            await near.until(lambda: "router" in near.members and "router" in far.members)
            client, server = Mote(near.air, NEAR), Mote(far.air, FAR, RESOURCES)
            assert await get(client, "hello") == b"over the hills"
            assert await get(client, "long") == LONG
            assert client.duplicates == server.duplicates == 0
            assert (far.port["packets_in"], near.port["packets_in"]) == (2, 10)
    finally:
        await router.stop()


async def test_a_nodes_probe_beside_its_bundles_over_the_embedded_broker(tmp_path: Path) -> None:
    """The amqp link of a node takes a probe, too (`[links.serial]`)."""
    server = BrokerServer(BrokerConfig())
    await server.start(Address("127.0.0.1", 0))
    url = f"amqp://guest:guest@127.0.0.1:{server.port}/"
    air = Air()
    probe = Probe(air, tmp_path / "ttyFAR")
    config = AmqpConfig(member="far", url=url, serial=SerialConfig(device=str(probe.path)))
    link = SPEC.open(config, LinkContext("amqp", Eid.parse("dtn://far/"), lambda: 0.5))
    try:
        await link.start(RecordingHost())
        async with radio_agent(url, "near", tmp_path / "ttyNEAR") as near:
            await near.until(lambda: "far" in near.members)
            client = Mote(near.air, NEAR)
            Mote(air, FAR, RESOURCES)
            assert await get(client, "long") == LONG
    finally:
        await link.stop()
        probe.unplug()
        await server.stop()


async def test_coap_programs_across_radios(rabbitmq: Vhost, tmp_path: Path) -> None:
    """libcoap's client and server, each beside a mote: what they say is fragmented, flooded, put together."""
    port = free_port()
    server = await asyncio.create_subprocess_exec("coap-server-notls", "-A", "127.0.0.1", "-p", str(port))
    async with AsyncExitStack() as stack:
        near, far = await two(stack, rabbitmq.uri, tmp_path, "auto", "v1")
        motes = UdpMote(near.air, NEAR, FAR), UdpMote(far.air, FAR, NEAR, ("127.0.0.1", port))
        for mote in motes:
            stack.callback(mote.close)
        stack.callback(server.terminate)
        said = {}
        for path in ("", ".well-known/core"):
            uri = f"coap://127.0.0.1:{motes[0].port}/{path}"
            client = await asyncio.create_subprocess_exec("coap-client-notls", "-m", "get", uri, stdout=PIPE)
            said[path] = (await asyncio.wait_for(client.communicate(), ANSWER_S))[0].decode()
        assert "test server made with libcoap" in said[""]
        assert said[".well-known/core"].startswith("</>")
        assert near.port["packets_in"] > 2  # fragments
    await server.wait()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_what_a_radio_repeats_is_no_copy(rabbitmq: Vhost, tmp_path: Path) -> None:
    """Where the air is bad, frames and acknowledgements are lost, and repeated: the answer comes nevertheless, once."""
    async with AsyncExitStack() as stack:
        near, far = await two(stack, rabbitmq.uri, tmp_path, "auto", "auto")
        client, server = Mote(near.air, NEAR), Mote(far.air, FAR, RESOURCES)
        lost = cycle([False, True, False, False, False])
        near.air.lose = far.air.lose = lambda: next(lost)
        assert await get(client, "hello") == b"over the hills"
        assert await get(client, "long") == LONG
        assert client.unacknowledged == server.unacknowledged == 0
        assert near.port["packets_out"] > far.port["packets_in"] == 2  # the far probe repeats by itself
        assert server.transmissions > 10


async def test_a_sniffer_beside_an_active_probe_makes_no_circle(rabbitmq: Vhost, tmp_path: Path) -> None:
    """Both places have both: what each of four agents hears comes to the others, and is in each air once."""
    async with AsyncExitStack() as stack:
        near, far = await two(stack, rabbitmq.uri, tmp_path, "auto", "v1")
        sniffers = [RadioAgent(rabbitmq.uri, f"s{at}", tmp_path / f"ttyS{at}", SNIFFER, passive=True) for at in (1, 2)]
        for place, sniffer in zip((near, far), sniffers, strict=True):
            place.air.stations.append(sniffer.probe)
            sniffer.probe.air = place.air
            await stack.enter_async_context(started(sniffer))
        await near.until(lambda: near.members == {"far", "s1", "s2"} == far.members ^ {"near", "far"})
        client, server = Mote(near.air, NEAR), Mote(far.air, FAR, RESOURCES)
        assert await get(client, "hello") == b"over the hills"
        assert await get(client, "long") == LONG
        frames = 2 + 10
        heard = [sniffer.port for sniffer in sniffers]
        await near.until(lambda: all(sniffer.port["packets_out"] == 2 * frames for sniffer in sniffers))
        data = [[each for each in place.air.frames if each[0] & 7 == 1] for place in (near, far)]
        assert [len(each) for each in data] == [frames, frames], heard
        assert client.duplicates == server.duplicates == 0
        await near.until(lambda: near.port["echoes"] > 0 and far.port["echoes"] > 0)


async def test_unplugged_and_plugged_in_again_under_traffic(rabbitmq: Vhost, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        near, far = await two(stack, rabbitmq.uri, tmp_path, "auto", "auto")
        client, server = Mote(near.air, NEAR), Mote(far.air, FAR, RESOURCES)
        assert await get(client, "hello") == b"over the hills"
        for count in (1, 2):
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(client.get(FAR, "long")) for _ in range(3)]
                far.probe.unplug()
                await far.until(lambda count=count: len(far.told("PortDown")) == count)  # type: ignore[misc]
                assert far.members == {"near"}  # the session stays
                far.probe.plug()
                await far.until(lambda count=count: len(far.told("PortUp")) == count + 1)  # type: ignore[misc]
                assert await get(client, "hello") == b"over the hills"
                for each in asked:  # they may have been lost on the way, as on any radio
                    each.cancel()
        assert far.port["unplugged"] == 2
        assert server.duplicates == 0


async def test_a_sniffer_beside_a_distant_radio_is_captured_with_what_it_knows(rabbitmq: Vhost, tmp_path: Path) -> None:
    """A passive probe's frames go to the bus; another agent's capture says how strong they came, down to CoAP."""
    sniffer_kind = ProbeKind(dialect="sensniff", is_passive=True)
    capture = tmp_path / "distant.pcapng"
    async with AsyncExitStack() as stack:
        sniffer = await stack.enter_async_context(
            radio_agent(rabbitmq.uri, "sniffer", tmp_path / "ttySNIFF", sniffer_kind, dialect="sensniff", channel=20)
        )
        listener = await stack.enter_async_context(
            radio_agent(rabbitmq.uri, "listener", tmp_path / "ttyLISTEN", dump=capture, passive=True)
        )
        await sniffer.until(lambda: "listener" in sniffer.members and sniffer.port["channel"] == 20)
        client = Mote(sniffer.air, NEAR)
        Mote(sniffer.air, FAR, RESOURCES)
        assert await get(client, "hello") == b"over the hills"
        assert await get(client, "long") == LONG
        count = len(sniffer.air.frames)
        await listener.until(lambda: listener.port["dropped"] == count)  # its probe only listens
    fields = ["wpan-tap.rss", "wpan-tap.lqi", "wpan-tap.ch_num", "frame.packet_flags_direction"]
    assert decoded(capture, "wpan", *fields) == [[str(RSS_DBM), str(LQI), "20", "0x00000002"]] * count
    codes = [["1", "hello"], ["69", ""], ["1", "long"], ["69", ""]]
    assert decoded(capture, "coap", "coap.code", "coap.opt.uri_path") == codes


@pytest.mark.parametrize("has_fcs", [True, False], ids=["195", "230"])
async def test_both_ends_capture_each_frame_once(rabbitmq: Vhost, tmp_path: Path, has_fcs: bool) -> None:
    kind, trailer = ProbeKind(has_fcs=has_fcs), "fcs" if has_fcs else "none"
    captures = [tmp_path / "near.pcapng", tmp_path / "far.pcapng"]
    async with AsyncExitStack() as stack:
        near, far = [
            await stack.enter_async_context(
                radio_agent(rabbitmq.uri, each.stem, tmp_path / each.stem, kind, trailer=trailer, dump=each)
            )
            for each in captures
        ]
        await near.until(lambda: "far" in near.members and "near" in far.members)
        client, _ = Mote(near.air, NEAR), Mote(far.air, FAR, RESOURCES)
        assert await get(client, "long") == LONG
    for capture in captures:
        rows = decoded(capture, "wpan", "wpan.seq_no", "wpan.src64", "wpan.fcs", "frame.interface_description")
        assert len(rows) == 10
        assert len({tuple(row[:2]) for row in rows}) == 10
        assert {bool(row[2]) for row in rows} == {has_fcs}
        assert {row[3] for row in rows} == {"IEEE 802.15.4 with its FCS" if has_fcs else "IEEE 802.15.4"}
        assert [row[0] for row in decoded(capture, "coap", "coap.code")] == ["1", "69"]
        assert decoded(capture, "wpan.fcs_ok == 0 || _ws.malformed", "frame.number") == []


@pytest.mark.parametrize("generation", [1, 0])
async def test_older_coordinators_hear_that_the_probe_is_there(
    rabbitmq: Vhost, tmp_path: Path, generation: int
) -> None:
    key = "fromAgent.near.802154.serial.started" if generation else "control.serial.fromAgent.near"
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    connection = await AmqpConnection.open(AmqpUrl.parse(rabbitmq.uri), name="coordinator")
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    await channel.bind(queue.name, "amq.topic", key)

    def keep(deliveries: Sequence[Delivery]) -> None:
        for each in deliveries:
            heard.put_nowait(json.loads(bytes(each.body)))

    await channel.consume(queue.name, keep, no_ack=True)
    try:
        async with (
            radio_agent(rabbitmq.uri, "near", tmp_path / "ttyNEAR", baudrate=460_800) as near,
            asyncio.timeout(ANSWER_S),
        ):
            for _ in range(2):
                said = await heard.get()
                assert (said["name"], said["port"], said["boudrate"]) == ("near", str(near.probe.path), "460800")
                near.probe.unplug()
                near.probe.plug()
    finally:
        await connection.close()


def decoded(capture: Path, shown: str, *fields: str) -> list[list[str]]:
    options = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-r", str(capture), "-Y", shown, "-T", "fields", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("\t") for line in done.stdout.splitlines()]
