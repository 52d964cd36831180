"""However the stream is cut, the same happens; whatever the stream is, only documented things happen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.events import (
    Close,
    MessageRejected,
    SegmentStarted,
    SessionTerminated,
    TransferAborted,
    TransferProgress,
    TransferReceived,
    TransferRefused,
    TransfersAcked,
    TransfersLost,
    TransfersReceived,
    TransferStarted,
)
from tumpline.machines.tcpcl4.states import State
from tumpline.testing.tcpcl4 import PEER_INIT, MemoryDriver, Pair
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.tcpcl4 import RefusalCode

CONFIG = SessionConfig(node_id="dtn://here/", segment_mru=1 << 20)
LARGE = FILE_PAYLOAD_OCTETS
INBOUND = (TransferStarted, SegmentStarted, TransferReceived, TransferAborted)
OUTBOUND = (TransferProgress, TransferRefused, TransfersLost)


def segment(flags: int, number: int, data: bytes, announced: int | None = None) -> bytes:
    items = b"" if announced is None else wire.encode_transfer_length(announced)
    return wire.encode_segment_head(wire.SegmentHead(flags, number, items, len(data))) + data


def transfer(number: int, sizes: Sequence[int], announced: int | None) -> bytes:
    """A transfer in segments of these sizes, announcing a length (right or wrong) or none."""
    last = len(sizes) - 1
    return b"".join(
        segment(
            (2 if index == 0 else 0) | (1 if index == last else 0),
            number,
            bytes([number & 0xFF]) * size,
            announced if index == 0 else None,
        )
        for index, size in enumerate(sizes)
    )


SIZES = st.sampled_from([0, 1, 5, 300, 40_000, LARGE - 1, LARGE, LARGE + 7])
TRANSFERS = st.builds(
    transfer,
    st.integers(0, 9),
    st.lists(SIZES, min_size=1, max_size=4),
    st.none() | st.sampled_from([5, 300, LARGE, 2 * LARGE]),
)
OTHERS = st.one_of(
    st.just(wire.KEEPALIVE),
    st.builds(
        lambda number, length: wire.encode_ack(wire.Acknowledgment(3, number, length)), st.integers(0, 5), st.just(3)
    ),
    st.builds(
        lambda code, number: wire.encode_refusal(wire.Refusal(code, number)), st.integers(0, 9), st.integers(0, 5)
    ),
    st.builds(lambda reason: wire.encode_rejection(wire.Rejection(reason, 4)), st.integers(0, 4)),
    st.builds(
        lambda flags, reason: wire.encode_termination(wire.Termination(flags, reason)),
        st.integers(0, 1),
        st.integers(0, 7),
    ),
    st.builds(lambda: wire.encode_init(PEER_INIT)),
    st.builds(
        lambda flags, number, size: segment(flags, number, bytes(size)), st.integers(0, 3), st.integers(0, 9), SIZES
    ),
)
STREAMS = st.lists(TRANSFERS | OTHERS, max_size=8).map(b"".join)
OPENING = wire.encode_contact(wire.ContactHeader(4, 0)) + wire.encode_init(PEER_INIT)


def opened() -> MemoryDriver:
    """An end that has sent a few transfers to a peer whose opening was read; it commits when told."""
    end = MemoryDriver(CONFIG, Role.ACTIVE)
    end.acknowledges = False
    end.decide = lambda started: RefusalCode.NO_RESOURCES if started.transfer % 3 == 2 else None
    end.session.connected(0.0)
    end.feed(OPENING, 0.0)
    for token in range(5):
        end.offer(token, b"abc", 0.0)
    end.write(1 << 16, 0.0)
    return end


def outcome(end: MemoryDriver) -> dict[str, Any]:
    """Everything that happened, batches opened; either direction keeps its order."""
    arrived = [item for event in end.of(TransfersReceived) for item in event.transfers]
    acked = [token for event in end.of(TransfersAcked) for token in event.tokens]
    return {
        "arrived": arrived,
        "acked": acked,
        "inbound": [event for event in end.log if isinstance(event, INBOUND)],
        "outbound": [event for event in end.log if isinstance(event, OUTBOUND)],
        "rejected": end.of(MessageRejected),
        "received": end.received,
        "terminated": end.of(SessionTerminated),
        "state": end.session.state,
        "sent": bytes(end.sent),
    }


def run(stream: bytes, cuts: Sequence[int]) -> dict[str, Any]:
    """Feed the stream cut at these offsets; what is written is taken at the end."""
    end = opened()
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    for start, stop in pairwise(edges):
        end.feed(stream[start:stop], 1.0)
    end.session.acknowledge(end.unanswered, 1.0)
    end.write(1 << 20, 1.0)
    return outcome(end)


FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])


@FEW
@given(STREAMS, st.lists(st.integers(0, 1 << 20), max_size=6))
def test_any_chunking_gives_the_same(stream: bytes, cuts: list[int]) -> None:
    assert run(stream, cuts) == run(stream, [])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(OTHERS.filter(lambda octets: len(octets) < 400), st.just(segment(3, 1, b"abc"))), max_size=6))
def test_octet_by_octet_gives_the_same(messages: list[bytes]) -> None:
    stream = b"".join(messages)
    assert run(stream, range(len(stream))) == run(stream, [])


def check_documented(end: MemoryDriver) -> None:
    """What must hold whatever came."""
    session = end.session
    closed = session.state is State.CLOSED
    assert end.is_closed == closed
    assert len(end.of(SessionTerminated)) == len(end.of(Close)) == int(closed)
    if closed:
        assert end.log[-1] == Close()
        assert session.wants() is None
        assert session.next_timeout() is None
    ended = [token for event in end.of(TransfersAcked) for token in event.tokens]
    ended += [token for event in end.of(TransfersLost) for token in event.tokens]
    ended += [event.token for event in end.of(TransferRefused)]
    assert len(ended) == len(set(ended)), "a unit ended twice"
    assert set(ended) <= set(end.units)
    if closed and any(end.units):
        assert set(ended) == set(end.units), "a unit never ended"
    started = [event.transfer for event in end.of(TransferStarted)]
    over = [event.transfer for event in end.of(TransferReceived)] + [
        event.transfer for event in end.of(TransferAborted)
    ]
    assert len(over) <= len(started)


@FEW
@given(STREAMS, st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=4))
def test_mutated_traffic_gives_only_documented_outcomes(stream: bytes, faults: list[tuple[int, int]]) -> None:
    octets = bytearray(OPENING + stream)
    for position, mask in faults:
        octets[position % len(octets)] ^= mask
    end = MemoryDriver(CONFIG, Role.ACTIVE)
    end.session.connected(0.0)
    end.feed(bytes(octets[: len(OPENING)]), 0.0)
    if end.session.state is State.ESTABLISHED:
        for token in range(3):
            end.offer(token, b"abc", 0.0)
        end.write(1 << 16, 0.0)
    end.feed(bytes(octets[len(OPENING) :]), 1.0)
    end.write(1 << 20, 1.0)
    check_documented(end)
    end.session.connection_lost(2.0)
    end.turn(2.0)
    check_documented(end)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_give_only_documented_outcomes(octets: bytes) -> None:
    end = opened()
    end.feed(octets, 1.0)
    end.write(1 << 20, 1.0)
    check_documented(end)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 100, 5_000, 120_000]), st.booleans()), max_size=8),
    st.sampled_from([3_000, 50_000, 1 << 20]),
    st.sampled_from([1, 10_000, 1 << 20]),
)
def test_two_sessions_carry_everything_both_ways(units: list[tuple[int, bool]], mru: int, most: int) -> None:
    pair = Pair(CONFIG, SessionConfig(node_id="dtn://there/", segment_mru=mru)).connect()
    pair.most = most
    for token, (size, whole) in enumerate(units):
        data = bytes([token]) * size
        pair.active.offer(token, data, pair.now, whole=whole)
        pair.passive.offer(token, data, pair.now, whole=whole)
    pair.settle()
    expected = {number: bytes([number]) * size for number, (size, _) in enumerate(units)}
    for end in (pair.active, pair.passive):
        assert end.received == expected
        assert sorted(token for event in end.of(TransfersAcked) for token in event.tokens) == list(expected)
        check_documented(end)
    pair.active.session.terminate(wire.TerminationCode.UNKNOWN, pair.now)
    pair.settle()
    assert [end.of(SessionTerminated)[0].clean for end in (pair.active, pair.passive)] == [True, True]


def test_a_message_is_counted_once_in_however_many_reads_it_comes() -> None:
    """Found by property: three SESS_INITs, octet by octet, were taken for a flood."""
    stream = wire.encode_init(PEER_INIT) * 3
    assert run(stream, range(len(stream))) == run(stream, [])
