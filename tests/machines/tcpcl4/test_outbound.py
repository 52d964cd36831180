"""Sending transfers to a scripted peer: what is written, and what its answers mean."""

from __future__ import annotations

import pytest

from tumpline.errors import LocalProtocolError
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.events import (
    BodyRange,
    MessageRejected,
    SessionEnding,
    SessionTerminated,
    TransferProgress,
    TransferRefused,
    TransfersAcked,
    TransfersLost,
)
from tumpline.machines.tcpcl4.session import Session
from tumpline.machines.tcpcl4.states import State
from tumpline.testing.tcpcl4 import PEER_INIT, MemoryDriver, established
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.tcpcl4 import RefusalCode, RejectionCode, TerminationCode

START, END, WHOLE = 2, 1, 3


def segment(flags: int, number: int, data: bytes, announced: int | None = None) -> bytes:
    items = b"" if announced is None else wire.encode_transfer_length(announced)
    return wire.encode_segment_head(wire.SegmentHead(flags, number, items, len(data))) + data


def ack(flags: int, number: int, length: int) -> bytes:
    return wire.encode_ack(wire.Acknowledgment(flags, number, length))


def refusal(code: int, number: int) -> bytes:
    return wire.encode_refusal(wire.Refusal(code, number))


def write(end: MemoryDriver, octets: bytes = b"") -> bytes:
    """Feed, and give what is written."""
    end.feed(octets, 1.0)
    return end.write(1 << 20, 1.0)


@pytest.fixture
def end() -> MemoryDriver:
    return established()


@pytest.fixture
def narrow() -> MemoryDriver:
    """The peer takes segments of 4 octets and transfers of 100."""
    return established(peer=PEER_INIT._replace(segment_mru=4, transfer_mru=100))


def test_small_transfers_leave_as_one_run_of_octets(end: MemoryDriver) -> None:
    for token in range(50):
        end.session.send(1000 + token, token, bytes(token), 1.0)
    (octets,) = end.session.data_to_send(1 << 20, 1.0)
    assert octets == b"".join(segment(WHOLE, token, bytes(token)) for token in range(50))
    acks = b"".join(ack(WHOLE, number, number) for number in range(50))
    assert write(end, acks) == b""
    assert end.log == [TransfersAcked([1000 + token for token in range(50)])]


def test_acknowledgements_come_in_any_order(end: MemoryDriver) -> None:
    for token in range(3):
        end.offer(token, b"abc", 1.0)
    write(end)
    write(end, ack(WHOLE, 2, 3) + ack(WHOLE, 0, 3))
    write(end, ack(WHOLE, 1, 3))
    assert end.log == [TransfersAcked([2, 0]), TransfersAcked([1])]


@pytest.mark.parametrize("whole", [True, False])
def test_segments_never_pass_the_peers_mru(narrow: MemoryDriver, whole: bool) -> None:
    """RFC 9174 §4.6; the length is announced on transfers in several segments only (§5.2.5.1)."""
    narrow.offer(1, b"abcdefghij", 1.0, whole=whole)
    narrow.offer(2, b"abcd", 1.0, whole=whole)
    narrow.offer(3, b"", 1.0, whole=whole)
    assert write(narrow) == (
        segment(START, 0, b"abcd", 10)
        + segment(0, 0, b"efgh")
        + segment(END, 0, b"ij")
        + segment(WHOLE, 1, b"abcd")
        + segment(WHOLE, 2, b"")
    )
    write(narrow, ack(START, 0, 4) + ack(WHOLE, 1, 4) + ack(0, 0, 8) + ack(WHOLE, 2, 0) + ack(END, 0, 10))
    assert narrow.log == [
        TransferProgress(1, 4),
        TransfersAcked([2]),
        TransferProgress(1, 8),
        TransfersAcked([3, 1]),
    ]


def test_bodies_stay_with_the_driver(end: MemoryDriver) -> None:
    end.session.send(5, 1_500_000, None, 1.0)
    end.session.send(6, 3, b"abc", 1.0)
    pieces = end.session.data_to_send(1 << 22, 1.0)
    first = wire.encode_segment_head(wire.SegmentHead(START, 0, wire.encode_transfer_length(1_500_000), 1 << 20))
    second = wire.encode_segment_head(wire.SegmentHead(END, 0, b"", 1_500_000 - (1 << 20)))
    assert pieces == [
        first,
        BodyRange(5, 0, 1 << 20),
        second,
        BodyRange(5, 1 << 20, 1_500_000 - (1 << 20)),
        segment(WHOLE, 1, b"abc"),
    ]


def test_a_pull_is_bounded(end: MemoryDriver) -> None:
    for token in range(1000):
        end.session.send(token, 100, bytes(100), 1.0)
    (octets,) = end.session.data_to_send(5000, 1.0)
    assert isinstance(octets, bytes)
    assert 5000 <= len(octets) < 5000 + 122
    end.session.send(1000, 1 << 24, None, 1.0)
    total = 0
    while pieces := end.session.data_to_send(1, 1.0):
        assert len(pieces) <= 2  # at most one segment
        total += len(pieces)
    assert total == 1000 - 41 + 2 * 16


def test_acknowledgements_and_keepalives_go_between_segments(end: MemoryDriver) -> None:
    end.session.send(5, 3 << 20, None, 1.0)
    end.session.data_to_send(1, 1.0)
    end.feed(segment(WHOLE, 0, b"abc"), 1.0)
    octets, body = end.session.data_to_send(1, 1.0)
    assert isinstance(octets, bytes)
    assert octets.startswith(ack(WHOLE, 0, 3))
    assert body == BodyRange(5, 1 << 20, 1 << 20)


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*range(8), 0xF0])
def test_every_refusal_reason_is_told(end: MemoryDriver, code: int) -> None:
    """RFC 9174 §5.2.4: an unknown reason is treated as "Unknown"."""
    end.offer(1, b"abc", 1.0)
    end.offer(2, b"abc", 1.0)
    write(end)
    assert write(end, refusal(code, 1)) == b""
    assert end.log == [TransferRefused(2, RefusalCode(code) if code < 7 else RefusalCode.UNKNOWN)]
    write(end, ack(WHOLE, 0, 3))
    assert end.log[1:] == [TransfersAcked([1])]


@pytest.mark.parametrize("whole", [True, False])
def test_a_refused_transfer_stops_early(narrow: MemoryDriver, whole: bool) -> None:
    """RFC 9174 §5.2.4: no further segment; refusals of segments that crossed, and acknowledgements, are no surprise."""
    narrow.offer(1, bytes(50), 1.0, whole=whole)
    narrow.offer(2, b"abc", 1.0)
    narrow.feed(b"", 1.0)
    assert narrow.write(1, 1.0) == segment(START, 0, bytes(4), 50)
    assert narrow.write(1, 1.0) == segment(0, 0, bytes(4))
    narrow.feed(refusal(2, 0) + refusal(2, 0) + ack(0, 0, 8), 1.0)
    assert narrow.write(1 << 16, 1.0) == segment(WHOLE, 1, b"abc")
    assert narrow.log == [TransferRefused(1, RefusalCode.NO_RESOURCES)]


def test_a_transfer_above_the_peers_mru_is_refused_here(narrow: MemoryDriver) -> None:
    narrow.offer(1, bytes(101), 1.0)
    narrow.offer(2, bytes(100), 1.0)
    narrow.turn(1.0)
    assert narrow.log == [TransferRefused(1, RefusalCode.NOT_ACCEPTABLE, local=True)]
    assert write(narrow).startswith(segment(START, 0, bytes(4), 100))


def test_a_transfer_in_absurdly_many_segments_is_refused_here() -> None:
    """RFC 9174 §7.10, "data dribble"."""
    config = SessionConfig(node_id="dtn://here/", segments_most=10)
    end = established(config, PEER_INIT._replace(segment_mru=2))
    end.offer(1, bytes(21), 1.0)
    end.offer(2, bytes(20), 1.0)
    end.turn(1.0)
    assert end.log == [TransferRefused(1, RefusalCode.NOT_ACCEPTABLE, local=True)]


# ---- answers that fit nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "kind"),
    [(ack(WHOLE, 9, 0), 2), (refusal(0, 9), 3), (ack(WHOLE, 0, 3), 2), (refusal(1, 0), 3)],
    ids=["ack never sent", "refusal never sent", "ack again", "refusal after ack"],
)
def test_unknown_transfers_are_unexpected(end: MemoryDriver, octets: bytes, kind: int) -> None:
    """RFC 9174 §5.1.2."""
    end.offer(1, b"abc", 1.0)
    write(end)
    write(end, ack(WHOLE, 0, 3))
    assert write(end, octets) == bytes([6, 3, kind])
    assert end.session.state is State.ESTABLISHED


@pytest.mark.parametrize(
    "octets",
    [
        ack(WHOLE, 0, 2),
        ack(END, 0, 3),
        ack(START, 0, 3),
        ack(0, 1, 4),
        ack(START, 1, 3),
        ack(START, 1, 4) + ack(END, 1, 7),
        ack(END, 1, 6),
        ack(WHOLE, 1, 6),
    ],
)
def test_acknowledgements_of_what_was_not_sent_end_the_session(narrow: MemoryDriver, octets: bytes) -> None:
    narrow.offer(1, b"abc", 1.0)
    narrow.offer(2, b"abcdef", 1.0)
    write(narrow)
    assert write(narrow, octets) == b"\x06\x03\x02" + b"\x05\x00\x00"
    assert narrow.of(TransfersLost) == [TransfersLost([1, 2])]
    assert narrow.is_closed


def test_an_acknowledgement_of_an_end_that_was_not_sent(narrow: MemoryDriver) -> None:
    narrow.offer(1, b"abcdef", 1.0)
    narrow.write(1, 1.0)
    narrow.feed(ack(START, 0, 4) + ack(END, 0, 6), 1.0)
    assert narrow.is_closed
    assert narrow.of(TransfersLost) == [TransfersLost([1])]


@pytest.mark.parametrize("reason", [1, 2, 3])
def test_a_rejected_message_is_told(end: MemoryDriver, reason: int) -> None:
    write(end, bytes([6, reason, 0x0C]))
    assert end.log == [MessageRejected(RejectionCode(reason), 0x0C)]
    assert end.session.state is State.ESTABLISHED


def test_a_rejected_segment_ends_the_session(end: MemoryDriver) -> None:
    end.offer(1, b"abc", 1.0)
    write(end)
    assert write(end, b"\x06\x02\x01") == b"\x05\x00\x00"
    assert end.log[0] == MessageRejected(RejectionCode.UNSUPPORTED, 1)
    assert isinstance(end.log[1], SessionEnding)


# ---- cancelling, losing ----------------------------------------------------------------------------------------------


def test_cancel(narrow: MemoryDriver) -> None:
    narrow.offer(1, bytes(10), 1.0)
    narrow.offer(2, bytes(10), 1.0)
    narrow.write(1, 1.0)
    assert not narrow.session.cancel(1)  # it has begun: it goes on until END
    assert narrow.session.cancel(2)
    assert not narrow.session.cancel(2)
    assert not narrow.session.cancel(99)
    assert write(narrow) == segment(0, 0, bytes(4)) + segment(END, 0, bytes(2))
    assert narrow.log == [TransfersLost([2])]


def test_a_lost_connection_loses_what_was_not_acknowledged(narrow: MemoryDriver) -> None:
    for token in (1, 2, 3):
        narrow.offer(token, bytes(3), 1.0)
    narrow.offer(4, bytes(10), 1.0)
    narrow.offer(5, bytes(3), 1.0)
    narrow.write(100, 1.0)
    narrow.feed(ack(WHOLE, 1, 3), 1.0)
    narrow.session.connection_lost(2.0)
    narrow.turn(2.0)
    assert narrow.log[:3] == [TransfersAcked([2]), TransfersLost([1, 3, 4]), TransfersLost([5])]
    assert isinstance(narrow.log[3], SessionTerminated)
    narrow.session.connection_lost(2.0)
    narrow.session.send(6, 1, b"a", 2.0)
    narrow.turn(2.0)
    assert narrow.log[5:] == [TransfersLost([6])]


def test_sending_before_the_session_is_a_mistake_of_ours() -> None:
    session = Session(SessionConfig(node_id="dtn://here/"), Role.ACTIVE, lambda: 0.0)
    with pytest.raises(LocalProtocolError):
        session.send(1, 1, b"a", 0.0)
    session.connected(0.0)
    with pytest.raises(LocalProtocolError):
        session.send(1, 1, b"a", 0.0)
    with pytest.raises(LocalProtocolError):
        session.connected(0.0)


# ---- transfer IDs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 6])
def test_the_end_of_the_transfer_ids(length: int) -> None:
    """RFC 9174 §5.2.1."""
    config = SessionConfig(node_id="dtn://here/", first_transfer_id=2**64 - 2)
    end = established(config, PEER_INIT._replace(segment_mru=4))
    for token in range(4):
        end.offer(token, bytes(length), 1.0)
    octets = write(end) + write(end)
    assert octets.endswith(b"\x05\x00\x05")
    (ending,) = end.of(SessionEnding)
    assert ending.reason is TerminationCode.RESOURCE_EXHAUSTION
    assert end.of(TransfersLost) == [TransfersLost([2, 3])]
    for number in (2**64 - 2, 2**64 - 1):  # what has begun is finished
        acks = [ack(WHOLE, number, 1)] if length == 1 else [ack(START, number, 4), ack(END, number, 6)]
        end.feed(b"".join(acks), 1.0)
    assert [event.tokens for event in end.of(TransfersAcked)] == [[0], [1]]


# ---- peers that keep not all of RFC 9174 (docs/interop.md) --------------------------------------------------------------


def test_reserved_flags_of_an_acknowledgement_are_ignored(narrow: MemoryDriver) -> None:
    """RFC 9174 §5.2.3, Table 5: "All reserved header flag bits SHALL be ignored by the receiver"."""
    narrow.offer(1, b"abcd", 1.0)
    narrow.offer(2, b"abcdefgh", 1.0)
    write(narrow)
    write(narrow, ack(WHOLE | 0xF0, 0, 4) + ack(START | 0x80, 1, 4) + ack(END | 0x04, 1, 8))
    assert narrow.log == [TransfersAcked([1]), TransferProgress(2, 4), TransfersAcked([2])]


def test_acknowledgements_without_flags_are_taken_where_configured() -> None:
    end = established(SessionConfig(lenient_acks=True), PEER_INIT._replace(segment_mru=4, transfer_mru=100))
    end.offer(1, b"abcd", 1.0)
    end.offer(2, b"abcdefgh", 1.0)
    write(end)
    write(end, ack(0, 0, 4) + ack(0, 1, 4) + ack(0, 1, 8))
    assert end.log == [TransfersAcked([1]), TransferProgress(2, 4), TransfersAcked([2])]


def test_no_leniency_covers_a_wrong_length() -> None:
    end = established(SessionConfig(lenient_acks=True))
    end.offer(1, b"abcd", 1.0)
    write(end)
    write(end, ack(WHOLE, 0, 3))
    assert end.session.state is not State.ESTABLISHED


def test_a_single_segment_takes_all_that_the_peers_mru_allows() -> None:
    octets = bytes(3 << 20)
    end = established(SessionConfig(single_segment=True), PEER_INIT._replace(segment_mru=len(octets)))
    assert end.session.established is not None
    assert end.session.established.transfer_mru == len(octets), "longer ones are to be fragmented"
    end.offer(1, octets, 1.0)
    (sent,) = end.session.data_to_send(1 << 30, 1.0)
    assert sent == segment(WHOLE, 0, octets)
