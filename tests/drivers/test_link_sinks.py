"""Large bundles of one session: each has room or is refused, and nothing that was lent is kept too long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tumpline.drivers.links._sinks import Sinks, why_refused
from tumpline.drivers.links._units import LongUnits, lose
from tumpline.errors import MalformedError, StorageError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Arrival, PathInfo, RefuseReason, Unit
from tumpline.testing.recording import MemoryFile, MemorySink, RecordingHost

PATH, TRANSFER = 3, 7


class Bench:
    """Sinks between a host and a peer that remember everything."""

    def __init__(self) -> None:
        self.host = RecordingHost()
        self.host.path_up(PathInfo(PATH, "test", None, "peer.example", authenticated=False, mru_octets=1 << 40))
        self.refused: list[tuple[int, RefuseReason]] = []
        self.sinks = Sinks(self.host, "peer.example", lambda transfer, reason: self.refused.append((transfer, reason)))

    @property
    def sink(self) -> MemorySink:
        (sink,) = self.host.sinks
        return sink

    def write(self, data: bytes) -> None:
        """As who reads straight from a socket does."""
        while data:
            room = self.sinks.room(TRANSFER, len(data))
            room[:] = data[: len(room)]
            self.sinks.advance(PATH, TRANSFER, len(room))
            data = data[len(room) :]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_body_arrives_whole_however_its_octets_came(bench: Bench) -> None:
    assert bench.sinks.begin(PATH, TRANSFER, 300_008)
    bench.sinks.put(PATH, TRANSFER, b"head")
    bench.write(bytes(300_000))
    bench.sinks.put(PATH, TRANSFER, memoryview(b"tail"))
    assert not bench.host.arrivals
    bench.sinks.finish(PATH, TRANSFER)
    assert bench.host.arrivals == [(PATH, Arrival(TRANSFER, b"head" + bytes(300_000) + b"tail"))]
    assert not bench.refused


def test_a_finished_sink_is_not_touched_again(bench: Bench) -> None:
    bench.sinks.begin(PATH, TRANSFER, 4)
    bench.sinks.put(PATH, TRANSFER, b"body")
    bench.sinks.finish(PATH, TRANSFER)
    bench.sinks.finish(PATH, TRANSFER)
    bench.sinks.abort(TRANSFER)
    assert len(bench.host.arrivals) == 1


def test_who_has_no_room_says_why(bench: Bench) -> None:
    bench.host.refuse_sinks = RefuseReason.COMPLETED
    assert not bench.sinks.begin(PATH, TRANSFER, 4)
    assert bench.refused == [(TRANSFER, RefuseReason.COMPLETED)]
    bench.sinks.put(PATH, TRANSFER, b"body")  # was under way when the peer was told
    bench.sinks.more(TRANSFER, 100)
    bench.sinks.finish(PATH, TRANSFER)
    assert bench.refused == [(TRANSFER, RefuseReason.COMPLETED)]
    assert not bench.host.arrivals
    assert not bench.host.notices, "a host that refuses knows it"


@pytest.mark.parametrize(
    "write", [lambda bench: bench.sinks.put(PATH, TRANSFER, b"body"), lambda bench: bench.write(b"body")]
)
def test_a_disk_that_is_full_refuses_what_comes(bench: Bench, write: Callable[[Bench], None]) -> None:
    bench.host.fail_sinks_at = 4
    bench.sinks.begin(PATH, TRANSFER, 8)
    write(bench)
    assert bench.sink.aborted
    assert bench.refused == [(TRANSFER, RefuseReason.NO_RESOURCES)]
    told = {"path": PATH, "address": "peer.example", "reason": "disk full"}
    assert bench.host.notices == [("transfer_refused", told)]
    bench.sinks.finish(PATH, TRANSFER)
    assert not bench.host.arrivals


def test_what_is_no_bundle_at_its_end_is_refused_for_good(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(transfer: int) -> Arrival:
        raise MalformedError(f"transfer {transfer} ends in the middle of a block")

    bench.sinks.begin(PATH, TRANSFER, 4)
    monkeypatch.setattr(bench.sink, "finish", finish)
    bench.sinks.finish(PATH, TRANSFER)
    assert bench.sink.aborted
    assert bench.refused == [(TRANSFER, RefuseReason.NOT_ACCEPTABLE)]
    assert "the middle of a block" in bench.host.notice_text()


def test_segments_of_unknown_total_length_ask_for_room_one_by_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.sinks.begin(PATH, TRANSFER, 10)
    bench.sinks.more(TRANSFER, 5)
    assert bench.sink.announced == 15
    assert not bench.refused
    monkeypatch.setattr(bench.sink, "more", lambda _octets: RefuseReason.NO_RESOURCES)
    bench.sinks.more(TRANSFER, 5)
    assert bench.refused == [(TRANSFER, RefuseReason.NO_RESOURCES)]


def test_an_aborted_transfer_gives_its_room_back(bench: Bench) -> None:
    bench.sinks.begin(PATH, TRANSFER, 8)
    bench.sinks.put(PATH, TRANSFER, b"body")
    bench.sinks.abort(TRANSFER)
    assert bench.sink.aborted
    bench.sinks.put(PATH, TRANSFER, b"more")
    assert bytes(bench.sink.data) == b"body"
    assert not bench.refused


def test_reasons() -> None:
    assert why_refused(StorageError("full")) is RefuseReason.NO_RESOURCES
    assert why_refused(MalformedError("no bundle")) is RefuseReason.NOT_ACCEPTABLE


# ---- units out -------------------------------------------------------------------------------------------------------


def test_a_long_unit_lends_its_payload_until_it_has_ended() -> None:
    file = MemoryFile(b"payload")
    units = LongUnits()
    units.add(Unit(1, b"head", file.range(7), b"tail"))
    assert b"".join(bytes(piece) for piece in units.pieces(1, 0, 4) if isinstance(piece, memoryview)) == b"head"
    units.end([2])  # a short one, of which nothing is kept
    assert file.readers == 2
    units.end([1, 2])
    assert file.readers == 1
    units.end([1])
    assert file.readers == 1
    file.release()


def test_who_still_sends_of_a_unit_releases_it_itself() -> None:
    ended: list[Unit] = []
    units, unit = LongUnits(ended.append), Unit(1, b"", Octets(b"payload"), b"")
    units.add(unit)
    units.end([1])
    assert ended == [unit]


def test_units_that_cannot_go_are_lost_and_keep_nothing() -> None:
    host, file = RecordingHost(), MemoryFile(b"payload")
    units = [Unit(1, b"", file.range(7), b""), Unit(2, b"", Octets(b"payload"), b"")]
    host.expect(PATH, [1, 2])
    lose(host, PATH, units)
    assert host.ended == {1: "lost", 2: "lost"}
    assert file.readers == 1
    lose(host, PATH, [])  # of which nobody wants to hear
    file.release()
