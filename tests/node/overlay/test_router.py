"""The packet router over a real broker, between older agents (kombu) and ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest

from tumpline.drivers.overlay import SessionFailed, SessionJoined, SessionLost
from tumpline.drivers.overlay.router import RouterAttachment
from tumpline.errors import TumplineError
from tumpline.machines.packet_router.shares import preferred
from tumpline.node.overlay.router import RouterWish, router_settings_of
from tumpline.testing.embedded_broker import embedded_broker
from tumpline.testing.memory_agents import meet, memory_agent
from tumpline.testing.older_members import OlderMember, OlderRouter, Plan
from tumpline.testing.rabbitmq import Vhost

SHARES = [f"tumpline.router.shard.{number}" for number in range(8)]


@asynccontextmanager
async def routed(vhost: Vhost, **wish: Any) -> AsyncIterator[RouterAttachment]:
    """A router at work."""
    async with routed_at(vhost.uri, **wish) as router:
        yield router


@asynccontextmanager
async def routed_at(uri: str, **wish: Any) -> AsyncIterator[RouterAttachment]:
    router = RouterAttachment(router_settings_of(RouterWish(url=uri, **wish)), lambda event: None)
    try:
        await router.start()
        yield router
    finally:
        await router.stop()


@asynccontextmanager
async def newcomers() -> AsyncIterator[str]:
    """The embedded broker."""
    async with embedded_broker() as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.port}/"


@contextmanager
def _together(*members: OlderMember) -> Iterator[None]:
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(member)
        yield


@asynccontextmanager
async def older(vhost: Vhost, *plans: Plan) -> AsyncIterator[list[OlderMember]]:
    """Older agents in the session, in threads of their own."""
    members = [OlderMember(vhost.uri, plan) for plan in plans]
    together = _together(*members)
    await asyncio.to_thread(together.__enter__)
    try:
        yield members
    finally:
        await asyncio.to_thread(together.__exit__, None, None, None)


async def knows(router: RouterAttachment, *names: str) -> None:
    """Until the router has heard of them."""
    async with asyncio.timeout(10):
        while not set(names) <= set(router.machine.directory.agents):
            await asyncio.sleep(0.01)


async def gave_way(router: RouterAttachment, shares: list[str]) -> None:
    """Until the router has let go what another one should have."""
    async with asyncio.timeout(10):
        while router.describe()["gave_way"] < len(shares):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("one", "other"), [(1, 1), (0, 0), (1, 0), (0, 1)])
async def test_older_agents_of_both_generations_ping_each_other(rabbitmq: Vhost, one: int, other: int) -> None:
    async with (
        routed(rabbitmq) as router,
        older(rabbitmq, Plan("agent_1", 1, one), Plan("agent_2", 2, other)) as (a, b),
    ):
        await knows(router, "agent_1", "agent_2")
        for destination in ("bbbb::2", "10.2.0.2"):
            await asyncio.to_thread(a.ping, destination)
            assert (await asyncio.to_thread(a.next_echo)).is_reply
        assert a.received.qsize() == 2, "each reply came once, and nothing else"
        assert (a.undecodable, b.undecodable) == (0, 0)
    assert rabbitmq.queues() == set()


async def test_it_goes_to_its_owner_alone(rabbitmq: Vhost) -> None:
    plans = [Plan(f"agent_{number}", number) for number in (1, 2, 3)]
    async with routed(rabbitmq) as router, older(rabbitmq, *plans) as (a, _, c):
        await knows(router, *(plan.name for plan in plans))
        await asyncio.to_thread(a.ping, "bbbb::2")
        assert (await asyncio.to_thread(a.next_echo)).is_reply
        await asyncio.to_thread(a.ping, "bbbb::3")
        assert (await asyncio.to_thread(a.next_echo)).is_reply
        assert c.received.qsize() == 1, "only what was for it"


async def test_a_topology_with_the_older_routers_left_overs(rabbitmq: Vhost) -> None:
    def leave_queues() -> None:
        with OlderRouter(rabbitmq.uri, [("agent1", "agent2")]):
            pass

    await asyncio.to_thread(leave_queues)
    assert "fromAgent.agent1.ip.tun.packet.raw@packet_router" in rabbitmq.queues()
    async with routed(rabbitmq, config="DUMMY_CFG_01"), older(rabbitmq, Plan("agent1"), Plan("agent2", 2)) as (a, _):
        await asyncio.to_thread(a.ping, "bbbb::2")
        assert (await asyncio.to_thread(a.next_echo)).is_reply
    assert not {queue for queue in rabbitmq.queues() if "agent" in queue}


async def test_beside_an_older_router_that_works_it_does_not_begin(rabbitmq: Vhost) -> None:
    working = OlderRouter(rabbitmq.uri, [("agent1", "agent2")])
    await asyncio.to_thread(working.__enter__)
    try:
        with pytest.raises(TumplineError, match="end the older router that works on this session"):
            async with routed(rabbitmq, config="DUMMY_CFG_01"):
                pass
    finally:
        await asyncio.to_thread(working.__exit__)


async def test_packets_are_dropped_on_demand_and_counted(rabbitmq: Vhost) -> None:
    async with routed(rabbitmq) as router, older(rabbitmq, Plan("agent_1"), Plan("agent_2", 2)) as (a, _):
        await knows(router, "agent_1", "agent_2")
        await asyncio.to_thread(a.publish, "routing.lossy.link.start", {"number_of_packets_to_drop": 1})
        for sequence in (1, 2):
            await asyncio.to_thread(a.ping, "bbbb::2", sequence)
        assert (await asyncio.to_thread(a.next_echo)).sequence == 2
        assert router.describe()["counters"]["lossy"] == 1


async def test_an_agent_that_went_is_forgotten(rabbitmq: Vhost) -> None:
    async with routed(rabbitmq) as router, older(rabbitmq, Plan("agent_1")) as (a,):
        async with older(rabbitmq, Plan("agent_2", 2)):
            await knows(router, "agent_1", "agent_2")
        await asyncio.to_thread(a.ping, "bbbb::2")
        async with asyncio.timeout(10):
            while "agent_2" in router.machine.directory.agents:
                await asyncio.sleep(0.01)


async def test_a_second_router_takes_over_when_the_first_is_gone(rabbitmq: Vhost) -> None:
    async with (
        older(rabbitmq, Plan("agent_1"), Plan("agent_2", 2)) as (a, _),
        routed(rabbitmq, name="second") as second,
    ):
        async with routed(rabbitmq, name="first"):
            await asyncio.to_thread(a.ping, "bbbb::2", 1)
            assert (await asyncio.to_thread(a.next_echo)).sequence == 1
        await asyncio.to_thread(a.ping, "bbbb::2", 2)
        assert (await asyncio.to_thread(a.next_echo)).sequence == 2
        assert second.machine.passing.counters.passed


async def test_delay_is_added_where_it_was_asked_for(rabbitmq: Vhost) -> None:
    wish = {"impair": "delay: 200 ms"}
    async with routed(rabbitmq, **wish) as router, older(rabbitmq, Plan("agent_1"), Plan("agent_2", 2)) as (a, _):
        await knows(router, "agent_1", "agent_2")
        began = asyncio.get_running_loop().time()
        await asyncio.to_thread(a.ping, "bbbb::2")
        assert (await asyncio.to_thread(a.next_echo)).is_reply
        assert asyncio.get_running_loop().time() - began >= 0.4


async def test_sharded_routers_serve_all_and_leave_nothing(rabbitmq: Vhost) -> None:
    plans = [Plan(f"agent_{number}", number, number % 2) for number in range(1, 7)]
    async with (
        routed(rabbitmq, name="east", shards=8) as east,
        routed(rabbitmq, name="west", shards=8) as west,
        older(rabbitmq, *plans) as members,
    ):
        for router in (east, west):
            await knows(router, *(plan.name for plan in plans))
        await gave_way(east, [share for share in SHARES if preferred(share, ("east", "west")) == "west"])
        for member, plan in zip(members, plans, strict=True):
            for number in range(1, 7):
                if number != plan.number:
                    await asyncio.to_thread(member.ping, f"bbbb::{number}", number)
                    assert (await asyncio.to_thread(member.next_echo)).sequence == number
        assert all(router.machine.passing.counters.passed for router in (east, west))
    assert rabbitmq.queues() == set()
    names = '[element(4, element(2, Exchange)) || Exchange <- rabbit_exchange:list(<<"%s">>)]'
    assert "tumpline" not in rabbitmq.broker.evaluate(names % rabbitmq.name)


async def test_quorum_queues_go_with_the_last_router(rabbitmq: Vhost) -> None:
    wish = {"shards": 4, "queue_type": "quorum", "queue_expires": "5s"}
    async with routed(rabbitmq, name="east", **wish), older(rabbitmq, Plan("agent_1"), Plan("agent_2", 2)) as (a, _):
        async with routed(rabbitmq, name="west", **wish) as west:
            await knows(west, "agent_1", "agent_2")
            await asyncio.to_thread(a.ping, "bbbb::2", 1)
            assert (await asyncio.to_thread(a.next_echo)).sequence == 1
        await asyncio.to_thread(a.ping, "bbbb::2", 2)
        assert (await asyncio.to_thread(a.next_echo)).sequence == 2
    assert rabbitmq.queues() == set()


async def test_routers_that_disagree_are_told_so(rabbitmq: Vhost) -> None:
    async with routed(rabbitmq, queue_length=500):
        with pytest.raises(TumplineError, match="give all routers the same --queue-type, --queue-length"):
            async with routed(rabbitmq, queue_length=600):
                pass


async def test_one_that_divides_the_work_otherwise_goes_again(rabbitmq: Vhost) -> None:
    failed = asyncio.Event()
    told: list[Any] = []

    def hear(event: Any) -> None:
        told.append(event)
        if type(event) is SessionFailed:
            failed.set()

    async with routed(rabbitmq, name="first", shards=2):
        other = RouterAttachment(router_settings_of(RouterWish(url=rabbitmq.uri, name="late", shards=4)), hear)
        try:
            await other.start()
            async with asyncio.timeout(10):
                await failed.wait()
        finally:
            await other.stop()
    said = next(str(event.error) for event in told if type(event) is SessionFailed)
    assert said.startswith("router first works on this session with another plan (2 shares, not 4 shares)")


@pytest.mark.parametrize(
    ("queue", "why"),
    [
        ("tumpline.member.router", "somebody deleted our queue"),
        (SHARES[0], f"somebody deleted queue {SHARES[0]}"),
    ],
)
async def test_a_queue_that_an_operator_deletes_is_made_again(rabbitmq: Vhost, queue: str, why: str) -> None:
    joined, told = asyncio.Semaphore(0), list[Any]()

    def hear(event: Any) -> None:
        told.append(event)
        if type(event) is SessionJoined:
            joined.release()

    router = RouterAttachment(router_settings_of(RouterWish(url=rabbitmq.uri, name="router")), hear)
    try:
        await router.start()
        await joined.acquire()
        rabbitmq.delete_queue(queue)
        async with asyncio.timeout(20):
            await joined.acquire()
        assert [event.reason for event in told if type(event) is SessionLost] == [why]
        assert (router.counts.joins, router.counts.losses) == (2, 1)
        async with (
            memory_agent(rabbitmq.uri, "a", 1, format="v1") as a,
            memory_agent(rabbitmq.uri, "b", 2, format="v0") as b,
        ):
            await meet(a, b)
            await a.ping("bbbb::2", 1)
    finally:
        await router.stop()
    assert rabbitmq.queues() == set()


async def test_a_name_is_one_agents_or_one_routers(rabbitmq: Vhost) -> None:
    async with memory_agent(rabbitmq.uri, "alice", 1):
        with pytest.raises(TumplineError, match="an agent named alice is in this session already"):
            async with routed(rabbitmq, name="alice"):
                pass


async def test_on_the_broker_for_newcomers_one_works_and_another_one_takes_over() -> None:
    async with (
        newcomers() as uri,
        routed_at(uri, name="first") as first,
        routed_at(uri, name="second") as second,
        memory_agent(uri, "a", 1, format="v1") as a,
        memory_agent(uri, "b", 2, format="v0") as b,
    ):
        await meet(a, b)
        await knows(first, "a", "b")
        await a.ping("bbbb::2", 1)
        assert (first.machine.passing.counters.passed, second.machine.passing.counters.passed) == (2, 0)
        await first.stop()
        await knows(second, "a", "b")
        await a.ping("bbbb::2", 2)
        assert second.machine.passing.counters.passed == 2


async def test_the_broker_for_newcomers_divides_agents_as_rabbitmq_does() -> None:
    async with (
        newcomers() as uri,
        routed_at(uri, name="east", shards=8) as east,
        routed_at(uri, name="west", shards=8) as west,
        memory_agent(uri, "a", 1, format="v1") as a,
        memory_agent(uri, "b", 2, format="v0") as b,
    ):
        await meet(a, b)
        for router in (east, west):
            await knows(router, "a", "b")
        await gave_way(east, [share for share in SHARES if preferred(share, ("east", "west")) == "west"])
        for sequence in range(1, 4):
            await a.ping("bbbb::2", sequence)
            await b.ping("bbbb::1", sequence)
        assert (set(a.replies.values()), set(b.replies.values())) == ({1}, {1})


async def test_members_of_all_formats_ping_each_other(rabbitmq: Vhost) -> None:
    async with routed(rabbitmq) as router, AsyncExitStack() as stack:
        agents = [
            await stack.enter_async_context(memory_agent(rabbitmq.uri, f"m{number}", number, format=format_))
            for number, format_ in enumerate(("auto", "binary", "v1", "v0"), 1)
        ]
        await knows(router, *(agent.name for agent in agents))
        await meet(*agents)
        for agent in agents:
            for other in agents:
                if other is not agent:
                    await agent.ping(f"bbbb::{other.number}", other.number)
        for agent in agents:
            assert set(agent.replies.values()) == {1}, f"{agent.name}: each reply once: {agent.replies}"


async def test_what_it_shows_is_json(rabbitmq: Vhost) -> None:
    async with routed(rabbitmq, name="shown") as router, memory_agent(rabbitmq.uri, "alice", 1):
        await knows(router, "alice")
        shown = json.loads(json.dumps(router.describe()))
        assert shown["router"] == "shown"
        assert [agent["format"] for agent in shown["agents"]] == ["binary+v1"]
