"""24 agents that come and go, for a minute (and for twenty in `make soak`): no stale route, no answer twice, nothing left."""

from __future__ import annotations

import asyncio
import gc
import os

import pytest

from tumpline.node.overlay.agent import OverlayAgent
from tumpline.testing.overlay_churn import Churn
from tumpline.testing.rabbitmq import Vhost

AGENTS = 24


async def churn(rabbitmq: Vhost, for_s: float, seed: int) -> None:
    descriptors, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
    run = Churn(rabbitmq.uri, AGENTS, seed)
    try:
        await run.run(for_s)
    finally:
        await run.end()
    print(run.seen)
    assert min(run.seen.joins, run.seen.leaves, run.seen.crashes, run.seen.looks) > 0
    assert rabbitmq.queues() == set()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert len(asyncio.all_tasks()) == tasks
    gc.collect()
    assert [each for each in gc.get_objects() if isinstance(each, OverlayAgent)] == []


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_minute_of_joining_and_leaving(rabbitmq: Vhost) -> None:
    await churn(rabbitmq, 60.0, seed=6)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_twenty_minutes_of_joining_and_leaving(rabbitmq: Vhost) -> None:
    await churn(rabbitmq, 1200.0, seed=66)
