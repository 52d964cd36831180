"""Echo and ping, against each other and against the cases in which an answer would do harm."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tumpline.errors import MalformedError, RefusedError
from tumpline.machines.contract import FileRange, Octets
from tumpline.machines.effects import Adu
from tumpline.node.services import _patience, echo, ping
from tumpline.testing.services import MemoryFile, MemoryNode, read_payload
from tumpline.wire.eid import Eid

Pair = tuple[MemoryNode, MemoryNode, ping.Ping]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """ground with ping, rover with echo."""
    network: dict[Eid, MemoryNode] = {}
    ground = MemoryNode("dtn://ground/", tmp_path / "ground", network)
    rover = MemoryNode("dtn://rover/", tmp_path / "rover", network)
    pinger = ping.Ping()
    await ground.add(ping.SPEC, pinger)
    await rover.add(echo.SPEC, echo.Echo())
    yield ground, rover, pinger
    await ground.stop()
    await rover.stop()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_every_request_comes_back_once_and_the_summary_says_so(pair: Pair) -> None:
    ground, rover, pinger = pair
    request = ping.PingRequest(to="dtn://rover/echo", count=5, interval_s=0, size=100)
    events = [event async for event in pinger.run(request)]
    replies = [event for event in events if isinstance(event, ping.PingReply)]
    assert [reply.number for reply in replies] == [1, 2, 3, 4, 5]
    assert all(reply.octets == 100 and not reply.duplicate and reply.rtt_ms >= 0 for reply in replies)
    last = events[-1]
    assert isinstance(last, ping.PingSummary)
    assert (last.sent, last.received, last.loss, last.exit_code) == (5, 5, 0.0, 0)
    assert last.min_ms is not None
    assert last.median_ms is not None
    assert last.max_ms is not None
    assert last.min_ms <= last.median_ms <= last.max_ms
    assert len(rover.sent) == 5
    assert not ground.owners, "the endpoint of the ping is given back"


async def test_the_reply_is_the_same_octets_from_the_endpoint_that_was_asked(pair: Pair) -> None:
    _, rover, _ = pair
    rover.arrive(Eid.parse("ipn:5.9"), Adu(Eid.parse("dtn://rover/echo"), Octets(b"\0hello"), lifetime_ms=77_000))
    await settle()
    reply = rover.sent[-1]
    assert (reply.destination, reply.payload, reply.source_demux, reply.lifetime_ms) == (
        Eid.parse("ipn:5.9"),
        Octets(b"\0hello"),
        "echo",
        77_000,
    )
    assert not rover.waiting


async def test_a_large_payload_is_copied_and_its_own_file_left_alone(pair: Pair) -> None:
    _, rover, _ = pair
    data = bytes(range(256)) * 10_000
    handle = MemoryFile(b"before" + data)
    rover.arrive(Eid.parse("dtn://x/y"), Adu(Eid.parse("dtn://rover/echo"), FileRange(handle, 6, len(data))))
    await settle()
    payload = rover.sent[-1].payload
    assert isinstance(payload, FileRange)
    assert payload.handle is not handle
    assert read_payload(payload, 0, len(data)) == data
    assert handle.readers == 1


@pytest.mark.parametrize(
    ("source", "admin"),
    [("dtn:none", False), ("ipn:0.0", False), ("dtn://x/echo", False), ("ipn:9.7", False), ("dtn://x/app", True)],
)
async def test_what_must_not_be_answered_is_taken_without_an_answer(pair: Pair, source: str, admin: bool) -> None:
    _, rover, _ = pair
    rover.arrive(Eid.parse(source), Adu(Eid.parse("dtn://rover/echo"), Octets(b"x")), admin=admin)
    await settle()
    assert rover.sent == []
    assert rover.waiting == {}


@pytest.mark.parametrize("source", ["dtn://x/echoes", "ipn:9.70", "dtn://x/7", "dtn://echo/x"])
async def test_names_that_only_look_like_an_echo_are_answered(pair: Pair, source: str) -> None:
    _, rover, _ = pair
    rover.arrive(Eid.parse(source), Adu(Eid.parse("dtn://rover/echo"), Octets(b"x")))
    await settle()
    assert [adu.destination for adu in rover.sent] == [Eid.parse(source)]


async def test_a_duplicate_reply_is_told_and_not_counted_twice(pair: Pair) -> None:
    ground, rover, pinger = pair
    request = ping.PingRequest(to="dtn://rover/echo", count=2, interval_s=0, timeout_s=5)
    events = []
    async for event in pinger.run(request):
        if isinstance(event, ping.PingReply) and event.number == 1 and not event.duplicate:
            ground.arrive(Eid.parse("dtn://rover/echo"), rover.sent[0])
            await settle()
        events.append(event)
    last = events[-1]
    assert isinstance(last, ping.PingSummary)
    assert (last.received, last.duplicates, last.loss) == (2, 1, 0.0)


async def test_no_answer_ends_in_exit_code_3(pair: Pair) -> None:
    _, _, pinger = pair
    request = ping.PingRequest(to="dtn://nobody/echo", count=2, interval_s=0, timeout_s=0)
    last = [event async for event in pinger.run(request)][-1]
    assert isinstance(last, ping.PingSummary)
    assert (last.sent, last.received, last.loss, last.exit_code) == (2, 0, 1.0, 3)
    assert last.median_ms is None


async def test_octets_that_are_no_reply_of_ours_are_ignored(pair: Pair) -> None:
    ground, rover, pinger = pair
    rover.held_back = lambda _adu: True
    run = pinger.run(ping.PingRequest(to="dtn://rover/echo", count=1, timeout_s=0))
    first = await anext(run)
    assert isinstance(first, ping.PingSent)
    demux = next(iter(ground.owners))
    for octets in (b"", b"x" * 64, b"tl-ping\n".ljust(64, b"\0")):
        ground.arrive(Eid.parse("dtn://evil/"), Adu(ground.node_id.with_demux(demux), Octets(octets)))
    await settle()
    rest = [event async for event in run]
    assert [type(event) for event in rest] == [ping.PingSummary]
    assert not ground.waiting


async def test_a_refused_request_is_raised(pair: Pair) -> None:
    ground, _, pinger = pair
    ground.refuse = "the quota is used up"
    with pytest.raises(RefusedError, match="quota"):
        async for _ in pinger.run(ping.PingRequest(to="dtn://rover/echo", count=1)):
            pass
    assert not ground.owners


async def test_a_ping_waits_for_room(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patience, "LOOK_S", 0.001)
    ground, _, pinger = pair
    ground.full = "the quota is used up"
    events = []
    async for event in pinger.run(ping.PingRequest(to="dtn://rover/echo", count=2, interval_s=0)):
        if isinstance(event, ping.PingWaiting):
            assert (event.number, event.reason) == (1, "the quota is used up")
            ground.empty()
        events.append(event)
    assert isinstance(events[0], ping.PingWaiting)
    last = events[-1]
    assert isinstance(last, ping.PingSummary)
    assert (last.sent, last.received, last.exit_code) == (2, 2, 0)


async def test_a_ping_without_room_ends_in_time(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patience, "LOOK_S", 0.001)
    ground, _, pinger = pair
    ground.full = "the quota is used up"
    events = [event async for event in pinger.run(ping.PingRequest(to="dtn://rover/echo", count=2, timeout_s=0.01))]
    last = events[-1]
    assert isinstance(last, ping.PingSummary)
    assert (last.sent, last.received, last.exit_code) == (0, 0, 3)


async def test_a_client_that_goes_away_ends_its_ping(pair: Pair) -> None:
    ground, _, pinger = pair
    run = pinger.run(ping.PingRequest(to="dtn://rover/echo"))
    await anext(run)
    await run.aclose()
    await settle()
    assert pinger.describe() == {"running": []}
    assert not ground.owners
    assert not ground._group


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 27},
        {"count": -1},
        {"interval_s": -1.0},
        {"timeout_s": float("nan")},
        {"to": "dtn:none"},
        {"to": "rover"},
    ],
)
async def test_senseless_requests_are_named(pair: Pair, wrong: dict[str, object]) -> None:
    _, _, pinger = pair
    with pytest.raises(MalformedError):
        await anext(pinger.run(ping.PingRequest(**{"to": "dtn://rover/echo", **wrong})))  # type: ignore[arg-type]
