"""Sources, sinks and traces."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tumpline.drivers.payload import PIECE_OCTETS
from tumpline.errors import MalformedError, NoAnswerError, RefusedError
from tumpline.machines.contract import FileRange, Octets
from tumpline.machines.effects import Adu
from tumpline.node.services import _numbered, _patience, sink, source, trace
from tumpline.node.services.sink import Sink, SinkConfig
from tumpline.node.services.source import Source, SourceRequest, SourceSummary, SourceWaiting
from tumpline.node.services.trace import Trace, TraceRequest
from tumpline.testing.services import MemoryFile, MemoryNode, read_payload
from tumpline.wire.admin import NOT_ASSERTED, Assertion, StatusReport, encode_admin
from tumpline.wire.eid import Eid

RUN = b"RRRRRRRR"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[MemoryNode]:
    node = MemoryNode("dtn://ground/", tmp_path)
    await node.add(sink.SPEC, Sink(SinkConfig(verify=True)))
    await node.add(source.SPEC, Source())
    await node.add(trace.SPEC, Trace())
    yield node
    await node.stop()


def sink_of(node: MemoryNode) -> Sink:
    service = node.contexts["sink"].service
    assert isinstance(service, Sink)
    return service


def source_of(node: MemoryNode) -> Source:
    service = node.contexts["source"].service
    assert isinstance(service, Source)
    return service


async def settle(node: MemoryNode) -> None:
    while node.waiting:
        await asyncio.sleep(0)


async def take(node: MemoryNode, *payloads: bytes) -> sink.SinkReport:
    for payload in payloads:
        node.arrive(Eid.parse("dtn://x/y"), Adu(Eid.parse("dtn://ground/sink"), Octets(payload)))
    await settle(node)
    return sink_of(node).report()


@pytest.mark.parametrize("size", [_numbered.HEADER_OCTETS, 100, 5000, 150_000])
async def test_what_a_source_sends_a_sink_verifies(node: MemoryNode, size: int) -> None:
    request = SourceRequest(to="dtn://ground/sink", count=20, size=size)
    last = [event async for event in source_of(node).run(request)][-1]
    assert isinstance(last, source.SourceSummary)
    assert (last.stored, last.octets) == (20, 20 * size)
    await settle(node)
    report = sink_of(node).report()
    assert (report.bundles, report.octets, report.verified) == (20, 20 * size, 20)
    assert (report.damaged, report.missing, report.duplicates, report.misordered) == (0, 0, 0, 0)
    assert {adu.payload.length for adu in node.sent} == {size}


async def test_a_sink_sees_gaps_doubles_and_disorder(node: MemoryNode) -> None:
    made = [_numbered.make(RUN, number, 50) for number in range(10)]
    report = await take(node, made[0], made[1], made[4], made[2], made[2], made[9])
    assert (report.verified, report.duplicates, report.misordered) == (5, 1, 2)
    assert report.missing == 5, "3, 5, 6, 7, 8"
    report = await take(node, *made[5:9], made[3])
    assert report.missing == 0


@pytest.mark.parametrize("at", [0, 10, 20, 31, 32, 60, 99])
async def test_a_sink_sees_one_altered_octet(node: MemoryNode, at: int) -> None:
    octets = bytearray(_numbered.make(RUN, 0, 100))
    octets[at] ^= 1
    report = await take(node, bytes(octets))
    changed_name = 8 <= at < 24  # the run and the number are not part of the pattern, but a run of their own
    assert (report.damaged, report.verified) == ((0, 1) if changed_name else (1, 0))


async def test_a_sink_forgets_gaps_that_grow_without_bound(node: MemoryNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "MAX_AHEAD", 10)
    report = await take(node, *(_numbered.make(RUN, number, 34) for number in range(5, 40)))
    assert (report.verified, report.missing) == (35, 5)
    assert all(not run.ahead for run in sink_of(node)._runs.values())


async def test_the_rate_of_a_source_is_kept(node: MemoryNode) -> None:
    request = SourceRequest(to="dtn://ground/sink", count=30, rate=1000)
    last = [event async for event in source_of(node).run(request)][-1]
    assert isinstance(last, source.SourceSummary)
    assert last.seconds >= 0.005
    assert last.bundles_per_s < 1600, "20 of the first slice leave at once, the rest waits for its time"


def watched(monkeypatch: pytest.MonkeyPatch) -> list[MemoryFile]:
    """All payload files that are made from now on."""
    handles: list[MemoryFile] = []

    class Watched(MemoryFile):
        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            handles.append(self)

    monkeypatch.setattr("tumpline.testing.services.MemoryFile", Watched)
    return handles


@pytest.mark.parametrize("size", [100, 150_000])
async def test_a_refused_source_ends_and_leaves_nothing(
    node: MemoryNode, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = watched(monkeypatch)
    node.refuse = "the quota is used up"
    with pytest.raises(RefusedError, match="quota"):
        [event async for event in source_of(node).run(SourceRequest(to="dtn://x/sink", count=3, size=size))]
    await asyncio.sleep(0)
    assert [handle.readers for handle in handles] == [0] * (3 if size > 100 else 0)


@pytest.mark.parametrize("size", [100, 150_000])
async def test_a_source_waits_for_room_and_goes_on(
    node: MemoryNode, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_patience, "LOOK_S", 0.001)
    node.full = "the quota is used up"
    events = []
    async for event in source_of(node).run(SourceRequest(to="dtn://x/sink", count=700, size=size)):
        if isinstance(event, SourceWaiting):
            assert (event.stored, event.total, event.reason) == (0, 700, "the quota is used up")
            assert not node.sent
            node.empty()
        events.append(event)
    assert isinstance(events[0], SourceWaiting)
    assert isinstance(events[-1], SourceSummary)
    numbers = [_numbered.parse([read_payload(adu.payload, 0, size)]) for adu in node.sent]
    assert [number for _, number in filter(None, numbers)] == list(range(700)), "all of them, in order"


@pytest.mark.parametrize("size", [100, 150_000])
async def test_a_source_does_not_wait_longer_than_asked(
    node: MemoryNode, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_patience, "LOOK_S", 0.001)
    handles = watched(monkeypatch)
    node.full = "the quota is used up"
    with pytest.raises(NoAnswerError, match=r"no room came within 0.01 s: the quota is used up") as caught:
        [
            event
            async for event in source_of(node).run(SourceRequest(to="dtn://x/sink", count=3, size=size, wait_s=0.01))
        ]
    assert caught.value.exit_code == 3
    await asyncio.sleep(0)
    assert [handle.readers for handle in handles] == [0] * (3 if size > 100 else 0)


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"size": 27}, {"rate": -1.0}, {"rate": float("nan")}, {"lifetime_s": 0.0}, {"to": "dtn:none"}],
)
async def test_senseless_sources_are_named(node: MemoryNode, wrong: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        await anext(source_of(node).run(SourceRequest(**{"to": "dtn://x/sink", **wrong})))  # type: ignore[arg-type]


# ---- trace -----------------------------------------------------------------------------------------------------------


def report_of(source: Eid, **said: Assertion) -> Octets:
    silent = StatusReport(NOT_ASSERTED, NOT_ASSERTED, NOT_ASSERTED, NOT_ASSERTED, 0, source, 1, 0)
    return Octets(encode_admin(silent._replace(**said)))  # type: ignore[arg-type]


async def test_a_trace_tells_what_nodes_report(node: MemoryNode) -> None:
    service = node.contexts["trace"].service
    assert isinstance(service, Trace)
    run = service.run(TraceRequest(to="dtn://rover/echo"))
    assert isinstance(await anext(run), trace.TraceSent)
    asked = node.sent[-1]
    mine = node.node_id.with_demux(asked.source_demux)
    assert asked.report_to == mine
    assert asked.report_flags & 0x20000
    relay, rover = Eid.parse("dtn://relay/"), Eid.parse("dtn://rover/")
    node.arrive(
        relay, Adu(mine, report_of(mine, received=Assertion(True, 5), forwarded=Assertion(True, 7))), admin=True
    )
    node.arrive(relay, Adu(mine, report_of(Eid.parse("dtn://other/x"), received=Assertion(True))), admin=True)
    node.arrive(relay, Adu(mine, Octets(b"nonsense")), admin=True)
    node.arrive(rover, Adu(mine, report_of(mine, delivered=Assertion(True))), admin=True)
    events = [event async for event in run]
    assert isinstance(events[0], trace.TraceReport)
    assert (events[0].node, events[0].did, events[0].time_ms) == ("dtn://relay/", ["received", "forwarded"], 5)
    assert isinstance(events[1], trace.TraceReport)
    assert (events[1].node, events[1].did, events[1].time_ms) == ("dtn://rover/", ["delivered"], None)
    assert isinstance(events[2], trace.TraceDelivered)
    assert events[3:] == [trace.TraceSummary("dtn://rover/echo", 2, True, 0)]
    assert node.notices[-1][0] == "report_ignored"


async def test_silence_is_no_answer_in_time(node: MemoryNode) -> None:
    service = node.contexts["trace"].service
    assert isinstance(service, Trace)
    events = [event async for event in service.run(TraceRequest(to="dtn://rover/echo", timeout_s=0))]
    assert events[1:] == [trace.TraceSummary("dtn://rover/echo", 0, False, 3)]
    assert not [demux for demux in node.owners if demux.startswith("trace")]


async def test_a_large_payload_of_a_stranger_is_counted(node: MemoryNode) -> None:
    payload = FileRange(MemoryFile(bytes(200_000)), 0, 200_000)
    node.arrive(Eid.parse("dtn://x/y"), Adu(Eid.parse("dtn://ground/sink"), payload))
    await settle(node)
    report = sink_of(node).report()
    assert (report.bundles, report.octets, report.damaged) == (1, 200_000, 1)


LONG = 2 * PIECE_OCTETS + 100


def in_pieces(octets: bytes) -> list[bytes]:
    return [octets[begin : begin + PIECE_OCTETS] for begin in range(0, len(octets), PIECE_OCTETS)]


@pytest.mark.parametrize("size", [PIECE_OCTETS - 1, PIECE_OCTETS, PIECE_OCTETS + 1, 2 * PIECE_OCTETS, LONG])
def test_a_long_payload_is_told_piece_by_piece(size: int) -> None:
    octets = _numbered.make(RUN, 7, size)
    assert len(octets) == size
    assert octets == b"".join(_numbered.make_pieces(RUN, 7, size))
    assert _numbered.parse(in_pieces(octets)) == (RUN, 7)
    assert _numbered.parse(in_pieces(octets)[:-1]) is None, "its end is missing"
    assert _numbered.parse([*in_pieces(octets), b"x"]) is None, "something follows"


@pytest.mark.parametrize("at", [28, PIECE_OCTETS - 1, PIECE_OCTETS, 2 * PIECE_OCTETS - 1, 2 * PIECE_OCTETS, LONG - 1])
def test_one_altered_octet_of_a_long_payload_is_seen(at: int) -> None:
    octets = bytearray(_numbered.make(RUN, 7, LONG))
    octets[at] ^= 1
    assert _numbered.parse(in_pieces(bytes(octets))) is None
