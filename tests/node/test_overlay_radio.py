"""Radios of distant places exchange 6LoWPAN and CoAP through agents and a broker, whatever formats the agents speak."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path

import pytest

from tumpline.testing.lowpan import CONTENT
from tumpline.testing.older_members import OlderMember, OlderRouter, Plan
from tumpline.testing.rabbitmq import Vhost
from tumpline.testing.radio import LQI, RSS_DBM, Mote, ProbeKind
from tumpline.testing.radio_agents import ANSWER_S, OlderPlace, RadioAgent, radio_agent

NEAR, FAR = bytes.fromhex("00124b0000000001"), bytes.fromhex("00124b0000000002")
LONG = bytes(range(256)) * 3  # nine frames
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


async def test_what_a_radio_repeats_is_no_copy(rabbitmq: Vhost, tmp_path: Path) -> None:
    """Where the air is bad, frames and acknowledgements are lost, and repeated: each goes on, the mote knows what it has had."""
    async with AsyncExitStack() as stack:
        near, far = await two(stack, rabbitmq.uri, tmp_path, "auto", "auto")
        client, server = Mote(near.air, NEAR), Mote(far.air, FAR, RESOURCES)
        lost = cycle([False, True, False, False, False])
        near.air.lose = far.air.lose = lambda: next(lost)
        assert await get(client, "hello") == b"over the hills"
        assert await get(client, "long") == LONG
        assert client.unacknowledged == server.unacknowledged == 0
        assert server.duplicates + client.duplicates > 0
        assert near.port["packets_out"] == far.port["packets_in"] > 2


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


async def test_both_ends_capture_each_frame_once(rabbitmq: Vhost, tmp_path: Path) -> None:
    captures = [tmp_path / "near.pcapng", tmp_path / "far.pcapng"]
    async with AsyncExitStack() as stack:
        near, far = [
            await stack.enter_async_context(
                radio_agent(
                    rabbitmq.uri,
                    capture.stem,
                    tmp_path / capture.stem,
                    ProbeKind(has_fcs=True),
                    trailer="fcs",
                    dump=capture,
                )
            )
            for capture in captures
        ]
        await near.until(lambda: "far" in near.members and "near" in far.members)
        client, _ = Mote(near.air, NEAR), Mote(far.air, FAR, RESOURCES)
        assert await get(client, "long") == LONG
    for capture in captures:
        rows = decoded(capture, "wpan", "wpan.seq_no", "wpan.src64", "wpan.fcs_ok", "frame.interface_name")
        assert len(rows) == 10
        assert len({tuple(row[:2]) for row in rows}) == 10
        assert {row[2] for row in rows} == {"1"}
        assert [row[0] for row in decoded(capture, "coap", "coap.code")] == ["1", "69"]


def decoded(capture: Path, shown: str, *fields: str) -> list[list[str]]:
    options = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-r", str(capture), "-Y", shown, "-T", "fields", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("\t") for line in done.stdout.splitlines()]
