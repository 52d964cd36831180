"""Members that write packets in different ways understand each other, and nobody hears anything twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from itertools import combinations

import pytest

from tumpline.drivers.overlay.router import RouterAttachment
from tumpline.node.overlay.router import RouterWish, router_settings_of
from tumpline.testing.memory_agents import meet, memory_agent
from tumpline.testing.older_members import OlderMember, OlderRouter, Plan
from tumpline.testing.rabbitmq import Vhost

FORMATS = ("auto", "binary", "v1", "v0")
COMMON = [pair for pair in combinations(FORMATS, 2) if "auto" in pair] + [(each, each) for each in FORMATS]
STRANGERS = [pair for pair in combinations(FORMATS, 2) if "auto" not in pair]
PINGS = 4


@asynccontextmanager
async def router(vhost: Vhost) -> AsyncIterator[RouterAttachment]:
    """One of ours, at work."""
    made = RouterAttachment(router_settings_of(RouterWish(url=vhost.uri)), lambda _: None)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


@pytest.mark.parametrize(("one", "other"), COMMON)
async def test_members_with_a_format_in_common_reach_each_other_at_once(rabbitmq: Vhost, one: str, other: str) -> None:
    async with (
        memory_agent(rabbitmq.uri, "alice", 1, format=one) as alice,
        memory_agent(rabbitmq.uri, "bob", 2, format=other) as bob,
    ):
        await alice.until(lambda: "bob" in alice.members)
        await bob.until(lambda: "alice" in bob.members)
        for sequence in range(PINGS):
            await alice.ping("bbbb::2", sequence)
            await bob.ping("10.2.0.1", sequence)
        assert all(alice.replies[sequence] == bob.replies[sequence] == 1 for sequence in range(PINGS - 1))


@pytest.mark.parametrize(
    ("one", "other", "via"),
    [
        *((*pair, "auto") for pair in COMMON + STRANGERS),
        ("auto", "auto", "router"),
        ("binary", "binary", "router"),
        ("binary", "v1", "router"),
    ],
)
async def test_through_the_router_everybody_reaches_everybody(rabbitmq: Vhost, one: str, other: str, via: str) -> None:
    async with (
        router(rabbitmq),
        memory_agent(rabbitmq.uri, "alice", 1, format=one, via=via) as alice,
        memory_agent(rabbitmq.uri, "bob", 2, format=other, via=via) as bob,
    ):
        await meet(alice, bob)
        for agent in (alice, bob):
            await agent.until(lambda: any(each["role"] == "router" for each in agent.members.values()))  # noqa: B023
        for sequence in range(PINGS):
            await alice.ping("bbbb::2", sequence)
            await bob.ping("10.2.0.1", sequence)
        assert all(alice.replies[sequence] == bob.replies[sequence] == 1 for sequence in range(PINGS - 1))


@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.parametrize("format", FORMATS)
async def test_older_agents_behind_the_router(rabbitmq: Vhost, format: str, generation: int) -> None:
    async with router(rabbitmq), memory_agent(rabbitmq.uri, "alice", 1, format=format) as alice:
        await alice.until(lambda: any(each["role"] == "router" for each in alice.members.values()))
        with ExitStack() as held:
            older = OlderMember(rabbitmq.uri, Plan("older", 2, generation))
            await asyncio.to_thread(held.enter_context, older)
            for sequence in range(PINGS):
                await alice.ping("bbbb::2", sequence)
                await asyncio.to_thread(older.ping, "10.2.0.1", sequence)
                echo = await asyncio.to_thread(older.next_echo)
                assert echo.sequence == sequence
            assert all(alice.replies[sequence] == 1 for sequence in range(PINGS - 1))
            assert older.undecodable == 0


@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.parametrize("format", ["auto", "v"])
async def test_an_older_agent_is_a_full_member(rabbitmq: Vhost, format: str, generation: int) -> None:
    wish = f"v{generation}" if format == "v" else format
    async with memory_agent(rabbitmq.uri, "alice", 1, format=wish) as alice:
        with ExitStack() as held:
            older = OlderMember(rabbitmq.uri, Plan("older", 2, generation))
            await asyncio.to_thread(held.enter_context, older)
            await alice.until(lambda: "older" in alice.members)
            for sequence in range(PINGS):
                await alice.ping("bbbb::2", sequence)
                await asyncio.to_thread(older.ping, "10.2.0.1", sequence)
                echo = await asyncio.to_thread(older.next_echo)
                assert echo.sequence == sequence
            assert all(alice.replies[sequence] == 1 for sequence in range(PINGS - 1))
            assert older.undecodable == 0


async def test_in_a_mixed_session_nobody_has_an_answer_twice(rabbitmq: Vhost) -> None:
    """All at once: members that speak only v1, only v0, only binary, everything; and older agents of both generations."""
    async with AsyncExitStack() as held:
        agents = [
            await held.enter_async_context(memory_agent(rabbitmq.uri, f"agent-{each}", number, format=each))
            for number, each in enumerate(FORMATS, 1)
        ]
        olders = held.enter_context(ExitStack())
        for number, generation in ((11, 1), (12, 0)):
            older = OlderMember(rabbitmq.uri, Plan(f"older-v{generation}", number, generation))
            await asyncio.to_thread(olders.enter_context, older)
        auto = agents[0]
        await auto.until(lambda: len(auto.members) == 5)
        for sequence in range(PINGS):
            for place in (2, 3, 4, 11, 12):
                await auto.ping(f"bbbb::{place:x}", 100 * place + sequence)
        assert set(auto.replies.values()) == {1}


@pytest.mark.parametrize("format", ["auto", "v1"])
async def test_beside_an_older_router_nobody_has_an_answer_twice(rabbitmq: Vhost, format: str) -> None:
    """It floods what agents say to all others of its table, whoever they are."""
    with ExitStack() as held:
        links = [["alice", "bob", "older"]]
        await asyncio.to_thread(held.enter_context, OlderRouter(rabbitmq.uri, links))
        async with (
            memory_agent(rabbitmq.uri, "alice", 1, format=format) as alice,
            memory_agent(rabbitmq.uri, "bob", 2, format=format) as bob,
        ):
            older = OlderMember(rabbitmq.uri, Plan("older", 3))
            await asyncio.to_thread(held.enter_context, older)
            await meet(alice, bob)
            await alice.until(lambda: "older" in alice.members and bool(alice.agent.snapshot()["member"]["routers"]))
            await bob.until(lambda: "older" in bob.members and bool(bob.agent.snapshot()["member"]["routers"]))
            for sequence in range(PINGS):
                await alice.ping("bbbb::2", sequence)
                await alice.ping("10.2.0.3", 100 + sequence)
                await bob.ping("bbbb::3", sequence)
                await asyncio.to_thread(older.ping, "bbbb::1", sequence)
                assert (await asyncio.to_thread(older.next_echo)).sequence == sequence
            assert set(alice.replies.values()) == set(bob.replies.values()) == {1}
            assert older.echoes.empty()
