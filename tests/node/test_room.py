"""The line of local senders that wait for room."""

import asyncio
from collections.abc import Sequence

import pytest

from tumpline.errors import RefusedError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu
from tumpline.node import room
from tumpline.node.room import RoomLine
from tumpline.wire.eid import Eid


class Store:
    """Room for so many octets."""

    def __init__(self) -> None:
        self.free = 0
        self.line = RoomLine(self.fits)

    def fits(self, adus: Sequence[Adu]) -> int:
        used = 0
        for count, adu in enumerate(adus):
            used += adu.payload.length
            if used > self.free:
                return count
        return len(adus)


def adu(octets: int) -> Adu:
    return Adu(Eid.parse("dtn://a/x"), Octets(bytes(octets)))


async def test_they_are_woken_in_order_as_far_as_there_is_room() -> None:
    store = Store()
    woken: list[int] = []

    async def wait(octets: int) -> None:
        assert await store.line.wait([adu(octets)], 60.0, own=False)
        woken.append(octets)

    async with asyncio.TaskGroup() as group:
        for octets in (30, 20, 40):
            group.create_task(wait(octets), name=str(octets))
            await asyncio.sleep(0)
        store.free = 25
        store.line.look()
        await asyncio.sleep(0)
        assert not woken, "the second one would fit, but the first one has waited longer"
        store.free = 55
        store.line.look()
        while len(woken) < 2:
            await asyncio.sleep(0)
        assert (woken, len(store.line)) == ([30, 20], 1)
        store.free = 40
        store.line.look()
    assert woken == [30, 20, 40]


async def test_what_stays_here_does_not_stand_behind_what_leaves() -> None:
    store = Store()
    async with asyncio.TaskGroup() as group:
        away = group.create_task(store.line.wait([adu(50)], 60.0, own=False), name="away")
        here = group.create_task(store.line.wait([adu(10), adu(10), adu(10)], 60.0, own=True), name="here")
        await asyncio.sleep(0)
        store.free = 20
        store.line.look()
        assert await here == 2, "so many of them fit"
        assert not away.done()
        store.free = 50
        store.line.look()
    assert away.result() == 1


async def test_nobody_waits_longer_than_asked_and_not_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_WAITING", 1)
    store = Store()
    assert await store.line.wait([adu(1)], 0.001, own=False) == 0
    assert not len(store.line)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(store.line.wait([adu(1)], 60.0, own=False), name="first")
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="1 senders wait for room already"):
            await store.line.wait([adu(1)], 60.0, own=True)
        first.cancel()
    assert not len(store.line)
