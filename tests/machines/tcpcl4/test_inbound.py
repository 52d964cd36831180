"""Receiving transfers from a scripted peer: what is answered, octet by octet, and when."""

from __future__ import annotations

import pytest

from tumpline.errors import LocalProtocolError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.machines.tcpcl4.events import (
    Body,
    Close,
    SegmentStarted,
    SessionTerminated,
    TransferAborted,
    TransferReceived,
    TransfersReceived,
    TransferStarted,
)
from tumpline.machines.tcpcl4.states import State
from tumpline.testing.tcpcl4 import MemoryDriver, established
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.tcpcl4 import RefusalCode, TerminationCode

START, END, WHOLE = 2, 1, 3
LARGE = FILE_PAYLOAD_OCTETS


def segment(flags: int, number: int, data: bytes, items: bytes = b"") -> bytes:
    return wire.encode_segment_head(wire.SegmentHead(flags, number, items, len(data))) + data


def announce(octets: int) -> bytes:
    return wire.encode_transfer_length(octets)


def ack(flags: int, number: int, length: int) -> bytes:
    return wire.encode_ack(wire.Acknowledgment(flags, number, length))


def refusal(code: RefusalCode, number: int) -> bytes:
    return wire.encode_refusal(wire.Refusal(code, number))


def answer(end: MemoryDriver, octets: bytes = b"") -> bytes:
    """Feed, and give what is written."""
    end.feed(octets, 1.0)
    return end.write(1 << 20, 1.0)


@pytest.fixture
def end() -> MemoryDriver:
    return established()


@pytest.fixture
def slow() -> MemoryDriver:
    """An end whose transfers wait for their answer."""
    made = established()
    made.acknowledges = False
    return made


# ---- small transfers -------------------------------------------------------------------------------------------------


def test_many_small_transfers_are_one_event_and_one_answer(end: MemoryDriver) -> None:
    octets = b"".join(segment(WHOLE, number, b"x" * number) for number in range(100))
    answers = b"".join(ack(WHOLE, number, number) for number in range(100))
    assert answer(end, octets) == answers
    assert end.log == [TransfersReceived([(number, b"x" * number) for number in range(100)])]


def test_a_zero_length_bundle(end: MemoryDriver) -> None:
    assert answer(end, segment(WHOLE, 0, b"")) == ack(WHOLE, 0, 0)
    assert end.received == {0: b""}


def test_end_is_acknowledged_only_after_the_commit(slow: MemoryDriver) -> None:
    octets = segment(START, 4, b"abc", announce(8)) + segment(0, 4, b"de") + segment(END, 4, b"fgh")
    assert answer(slow, octets) == ack(START, 4, 3) + ack(0, 4, 5)
    assert slow.received == {4: b"abcdefgh"}
    slow.session.acknowledge([4], 2.0)
    assert answer(slow) == ack(END, 4, 8)


def test_acknowledged_lengths_of_the_rfc_example(end: MemoryDriver) -> None:
    """RFC 9174 §5.2.3: 100, 200, 500 and 1000 octets."""
    sizes = [(START, 100), (0, 200), (0, 500), (END, 1000)]
    octets = b"".join(segment(flags, 0, bytes(size)) for flags, size in sizes)
    assert answer(end, octets) == ack(START, 0, 100) + ack(0, 0, 300) + ack(0, 0, 800) + ack(END, 0, 1800)


def test_acknowledgements_leave_in_commit_order(slow: MemoryDriver) -> None:
    octets = b"".join(segment(WHOLE, number, bytes(number)) for number in range(4))
    octets += segment(START, 9, b"a") + segment(END, 9, b"b")
    assert answer(slow, octets) == ack(START, 9, 1)
    slow.session.acknowledge([9, 2], 1.0)
    slow.session.acknowledge([0], 1.0)
    assert answer(slow) == ack(END, 9, 2) + ack(WHOLE, 2, 2) + ack(WHOLE, 0, 0)
    slow.session.acknowledge([3, 1], 1.0)
    assert answer(slow) == ack(WHOLE, 3, 3) + ack(WHOLE, 1, 1)


def test_flags_that_mean_nothing_here_are_mirrored(slow: MemoryDriver) -> None:
    """RFC 9174 §5.2.3: "including flags not decodable to the entity"."""
    octets = segment(0xFF, 1, b"a") + segment(0xF2, 2, b"b") + segment(0x80, 2, b"c") + segment(0x41, 2, b"d")
    assert answer(slow, octets) == ack(0xF2, 2, 1) + ack(0x80, 2, 2)
    slow.session.acknowledge([1, 2], 1.0)
    assert answer(slow) == ack(0xFF, 1, 1) + ack(0x41, 2, 3)
    assert slow.received == {1: b"a", 2: b"bcd"}


def test_empty_segments_count(end: MemoryDriver) -> None:
    octets = segment(START, 1, b"") + segment(0, 1, b"") + segment(0, 1, b"ab") + segment(END, 1, b"")
    assert answer(end, octets) == ack(START, 1, 0) + ack(0, 1, 0) + ack(0, 1, 2) + ack(END, 1, 2)
    assert end.received == {1: b"ab"}


def test_a_segment_is_not_taken_before_it_is_whole(end: MemoryDriver) -> None:
    octets = segment(WHOLE, 1, b"abcdef")
    assert answer(end, octets[:-1]) == b""
    assert end.log == []
    assert answer(end, octets[-1:]) == ack(WHOLE, 1, 6)


# ---- large transfers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "announced", "started"),
    [
        ([LARGE], False, TransferStarted(7, LARGE, LARGE, b"")),
        ([LARGE], True, TransferStarted(7, LARGE, LARGE, b"")),
        ([10, LARGE, 0, 5], True, TransferStarted(7, LARGE + 15, LARGE + 15, b"")),
        ([LARGE, 10], False, TransferStarted(7, None, LARGE, b"")),
        ([0, LARGE, 10], False, TransferStarted(7, None, LARGE, b"")),
        ([3, 4, LARGE, 10], False, TransferStarted(7, None, LARGE + 7, b"\0" * 7)),
        ([LARGE - 1, 1, 0], False, TransferStarted(7, None, LARGE, b"\0" * (LARGE - 1))),
    ],
)
def test_a_large_transfer_goes_into_its_sink(
    end: MemoryDriver, sizes: list[int], announced: bool, started: TransferStarted
) -> None:
    octets, answers, total = b"", b"", 0
    for index, size in enumerate(sizes):
        flags = (START if index == 0 else 0) | (END if index == len(sizes) - 1 else 0)
        octets += segment(flags, 7, bytes(size), announce(sum(sizes)) if announced and index == 0 else b"")
        total += size
        answers += ack(flags, 7, total)
    assert answer(end, octets) == answers
    assert end.of(TransferStarted) == [started]
    assert end.of(TransferReceived) == [TransferReceived(7)]
    assert end.received == {7: bytes(sum(sizes))}


def test_further_segments_of_unknown_length_are_told(end: MemoryDriver) -> None:
    octets = segment(START, 7, bytes(LARGE)) + segment(0, 7, bytes(5)) + segment(END, 7, bytes(6))
    answer(end, octets)
    started = TransferStarted(7, None, LARGE, b"")
    assert end.log == [started, SegmentStarted(7, 5), SegmentStarted(7, 6), TransferReceived(7)]


def test_nothing_is_read_until_a_transfer_is_accepted() -> None:
    end = established()
    octets = segment(WHOLE, 7, bytes(LARGE))
    head = len(octets) - LARGE
    assert end.session.receive(memoryview(octets), 1.0) == head
    assert end.session.wants() is None
    assert end.session.receive(memoryview(octets)[head:], 1.0) == 0
    end.session.accept(7, 1.0)
    assert end.session.wants() == Body(7, LARGE)
    end.session.body_received(LARGE - 1, 1.0)
    assert end.session.wants() == Body(7, 1)
    with pytest.raises(LocalProtocolError):
        end.session.body_received(2, 1.0)
    end.session.body_received(1, 1.0)
    assert end.session.events()[-1] == TransferReceived(7)


def test_segments_of_a_large_transfer_are_acknowledged_as_they_come(slow: MemoryDriver) -> None:
    assert answer(slow, segment(START, 7, bytes(LARGE), announce(LARGE + 1))) == ack(START, 7, LARGE)
    assert answer(slow, segment(END, 7, b"\0")) == b""
    slow.session.acknowledge([7], 1.0)
    assert answer(slow) == ack(END, 7, LARGE + 1)


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", RefusalCode)
def test_a_complete_transfer_is_refused(slow: MemoryDriver, code: RefusalCode) -> None:
    answer(slow, segment(WHOLE, 3, b"abc"))
    slow.session.refuse(3, code, 1.0)
    assert answer(slow) == refusal(code, 3)
    assert answer(slow, segment(WHOLE, 4, b"abc")) == b""
    slow.session.acknowledge([4], 1.0)
    assert answer(slow) == ack(WHOLE, 4, 3)


@pytest.mark.parametrize("code", RefusalCode)
def test_a_large_transfer_is_refused_at_its_start(end: MemoryDriver, code: RefusalCode) -> None:
    """RFC 9174 §5.2.4: later segments "SHALL also be refused"; the sender need not send END."""
    end.decide = lambda _: code
    assert answer(end, segment(START, 3, bytes(9), announce(LARGE))) == refusal(code, 3)
    assert answer(end, segment(0, 3, bytes(LARGE))) == refusal(code, 3)
    assert answer(end, segment(WHOLE, 4, b"abc")) == ack(WHOLE, 4, 3)
    assert end.received == {4: b"abc"}
    assert end.of(TransferAborted) == []


def test_a_refused_sender_may_still_send_its_end(end: MemoryDriver) -> None:
    end.decide = lambda _: RefusalCode.NO_RESOURCES
    octets = segment(START, 3, bytes(LARGE)) + segment(END, 3, bytes(LARGE)) + segment(WHOLE, 4, b"abc")
    # The refusal had no chance to leave before the second segment came: one is enough for both.
    assert answer(end, octets) == ack(WHOLE, 4, 3) + refusal(RefusalCode.NO_RESOURCES, 3)


def test_a_transfer_is_refused_in_the_middle_of_a_segment(end: MemoryDriver) -> None:
    octets = segment(START, 3, bytes(LARGE), announce(3 * LARGE))
    end.feed(octets[:-10], 1.0)
    end.session.refuse(3, RefusalCode.NO_RESOURCES, 1.0)
    assert end.session.wants() == Body(None, 10)
    assert answer(end) == refusal(RefusalCode.NO_RESOURCES, 3)
    assert end.of(TransferAborted) == [TransferAborted(3, "refused by the receiver")]
    assert answer(end, octets[-10:] + segment(0, 3, bytes(5))) == refusal(RefusalCode.NO_RESOURCES, 3)
    assert answer(end, segment(WHOLE, 4, b"a")) == ack(WHOLE, 4, 1)


def test_refusals_wait_for_earlier_transfers(slow: MemoryDriver) -> None:
    """RFC 9174 §5.2.4: "The receiver MUST, for each transfer preceding the one to be refused, have either acknowledged
    all XFER_SEGMENT messages or refused the bundle transfer"."""
    answer(slow, b"".join(segment(WHOLE, number, b"") for number in range(5)))
    slow.session.refuse(2, RefusalCode.COMPLETED, 1.0)
    slow.session.refuse(3, RefusalCode.NOT_ACCEPTABLE, 1.0)
    slow.session.acknowledge([4], 1.0)
    assert answer(slow) == ack(WHOLE, 4, 0)
    slow.session.acknowledge([1], 1.0)
    assert answer(slow) == ack(WHOLE, 1, 0)
    slow.session.acknowledge([0], 1.0)
    assert answer(slow) == (
        ack(WHOLE, 0, 0) + refusal(RefusalCode.COMPLETED, 2) + refusal(RefusalCode.NOT_ACCEPTABLE, 3)
    )


def test_a_transfer_in_progress_is_refused_after_earlier_ones_are_settled(slow: MemoryDriver) -> None:
    slow.decide = lambda _: RefusalCode.NO_RESOURCES
    assert answer(slow, segment(WHOLE, 1, b"a") + segment(START, 2, bytes(LARGE))) == b""
    slow.session.acknowledge([1], 1.0)
    assert answer(slow) == ack(WHOLE, 1, 1) + refusal(RefusalCode.NO_RESOURCES, 2)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (segment(WHOLE, 3, b"abc", bytes.fromhex("01 0002 0000")), RefusalCode.EXTENSION_FAILURE),
        (segment(WHOLE, 3, b"abc", bytes.fromhex("ff 8001 0000")), RefusalCode.EXTENSION_FAILURE),
        (segment(WHOLE, 3, b"abc", bytes.fromhex("00 8001 0002 aa")), RefusalCode.EXTENSION_FAILURE),
        (segment(WHOLE, 3, b"abc", bytes.fromhex("00 0001 0001 aa")), RefusalCode.EXTENSION_FAILURE),
        (segment(WHOLE, 3, b"abc", announce(3) + announce(3)), RefusalCode.EXTENSION_FAILURE),
        (segment(WHOLE, 3, b"abc", announce(4)), RefusalCode.NOT_ACCEPTABLE),
        (segment(WHOLE, 3, b"abc", announce(2)), RefusalCode.NOT_ACCEPTABLE),
        (segment(START, 3, b"abc", announce(4)) + segment(END, 3, b"ab"), RefusalCode.NOT_ACCEPTABLE),
        (segment(START, 3, b"abc", announce(9)) + segment(END, 3, b"ab"), RefusalCode.NOT_ACCEPTABLE),
        (segment(START, 3, bytes(LARGE), announce(LARGE + 9)) + segment(END, 3, b"ab"), RefusalCode.NOT_ACCEPTABLE),
        (segment(START, 3, bytes(LARGE), announce(LARGE)) + segment(0, 3, b"ab"), RefusalCode.NOT_ACCEPTABLE),
        (segment(START, 3, b"abc", announce(1 << 50)), RefusalCode.NO_RESOURCES),
    ],
)
def test_transfers_that_refuse_themselves(slow: MemoryDriver, octets: bytes, code: RefusalCode) -> None:
    """RFC 9174 §5.2.5, §5.2.5.1."""
    assert answer(slow, octets).endswith(refusal(code, 3))
    assert slow.received == {}
    assert len(slow.of(TransferAborted)) == len(slow.of(TransferStarted))
    answer(slow, segment(WHOLE, 4, b"next"))
    assert slow.received == {4: b"next"}


@pytest.mark.parametrize(
    "items", ["00 8001 0002 aabb", "fe 0001 0008 0000000000000003", "01 0001 0008 0000000000000003"]
)
def test_transfer_extensions_that_do_no_harm(end: MemoryDriver, items: str) -> None:
    assert answer(end, segment(WHOLE, 3, b"abc", bytes.fromhex(items))) == ack(WHOLE, 3, 3)


def test_a_transfer_above_the_transfer_mru_is_refused_once_it_passes_it() -> None:
    end = established(SessionConfig(node_id="dtn://here/", transfer_mru=10))
    assert answer(end, segment(START, 3, bytes(6))) == ack(START, 3, 6)
    assert answer(end, segment(0, 3, bytes(5))) == refusal(RefusalCode.NO_RESOURCES, 3)
    assert answer(end, segment(WHOLE, 4, bytes(11))) == refusal(RefusalCode.NO_RESOURCES, 4)
    assert answer(end, segment(WHOLE, 5, bytes(10))) == ack(WHOLE, 5, 10)


# ---- what the peer must not do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "then"),
    [
        (segment(0, 1, b"abc"), b""),  # nothing began
        (segment(END, 1, b"abc"), b""),
        (segment(START, 1, b"abc") + segment(0, 2, b"x"), ack(START, 1, 3)),  # not this one
        (segment(START, 1, b"abc") + segment(WHOLE, 2, b"x"), ack(START, 1, 3)),  # interleaved
        (segment(START, 1, b"abc") + segment(START, 1, b"x"), ack(START, 1, 3)),
        (segment(0, 1, bytes(LARGE)), b""),
    ],
)
def test_unexpected_segments_are_rejected_and_skipped(end: MemoryDriver, octets: bytes, then: bytes) -> None:
    """RFC 9174 §5.1.2, §5.2.2."""
    assert answer(end, octets) == then + b"\x06\x03\x01"
    assert end.log == []
    if then:
        assert answer(end, segment(END, 1, b"def")) == ack(END, 1, 6)
        assert end.received == {1: b"abcdef"}


def test_the_number_of_a_transfer_that_waits_cannot_be_used_again(slow: MemoryDriver) -> None:
    """RFC 9174 §5.2.1: IDs are unique."""
    octets = segment(WHOLE, 1, b"a") + segment(WHOLE, 1, b"b") + segment(START, 1, b"c") + segment(END, 1, b"c")
    assert answer(slow, octets) == 3 * b"\x06\x03\x01"
    assert slow.of(TransfersReceived) == [TransfersReceived([(1, b"a")])]


def test_a_segment_above_our_mru_ends_the_session() -> None:
    end = established(SessionConfig(node_id="dtn://here/", segment_mru=100))
    assert answer(end, segment(START, 1, bytes(100))) == ack(START, 1, 100)
    assert answer(end, segment(0, 1, bytes(101))) == b"\x06\x02\x01" + b"\x05\x00\x05"
    assert end.log[-1] == Close()
    (terminated,) = end.of(SessionTerminated)
    assert terminated.reason is TerminationCode.RESOURCE_EXHAUSTION
    assert "Segment MRU" in terminated.text


def test_a_transfer_extension_list_beyond_the_bound_ends_the_session(end: MemoryDriver) -> None:
    head = wire.encode_segment_head(wire.SegmentHead(WHOLE, 1, bytes(wire.EXTENSION_OCTETS_MOST + 1), 1))
    assert answer(end, head[:30]) == b"\x05\x00\x05"
    assert end.is_closed


def test_a_peer_that_never_reads_its_acknowledgements_is_let_go() -> None:
    end = established(SessionConfig(node_id="dtn://here/", control_octets_most=18 * 1000))
    end.feed(b"".join(segment(WHOLE, number, b"") for number in range(1000)), 1.0)
    end.feed(segment(START, 1000, b""), 1.0)
    end.feed(segment(0, 1000, b""), 1.0)
    (terminated,) = end.of(SessionTerminated)
    assert terminated.reason is TerminationCode.RESOURCE_EXHAUSTION
    assert "unread" in terminated.text


# ---- bounds on what waits for its answer -----------------------------------------------------------------------------


def test_too_many_transfers_without_answer_stop_the_reading() -> None:
    end = established(SessionConfig(node_id="dtn://here/", unsettled_most=10))
    end.acknowledges = False
    end.feed(b"".join(segment(WHOLE, number, b"ab") for number in range(10)), 1.0)
    assert end.session.wants() is None
    end.feed(segment(WHOLE, 10, b"ab"), 1.0)
    assert len(end.received) == 10
    assert end.unread == 24
    end.session.acknowledge([4], 1.0)
    assert answer(end).startswith(ack(WHOLE, 4, 2))
    assert len(end.received) == 11


@pytest.mark.parametrize("how", ["acknowledge", "refuse"])
def test_too_many_octets_without_answer_stop_the_reading(how: str) -> None:
    end = established(SessionConfig(node_id="dtn://here/", unsettled_octets_most=1000))
    end.acknowledges = False
    octets = segment(WHOLE, 1, bytes(400)) + segment(START, 2, bytes(400)) + segment(END, 2, bytes(200))
    end.feed(octets, 1.0)
    assert end.session.wants() is None
    if how == "refuse":
        end.session.refuse(1, RefusalCode.NO_RESOURCES, 1.0)
        end.write(999, 1.0)
    else:
        end.session.acknowledge([1], 1.0)
    assert end.session.wants() is not None
    end.session.acknowledge([2], 1.0)
    end.feed(segment(WHOLE, 3, bytes(999)), 1.0)
    assert end.session.wants() is not None
    end.feed(segment(WHOLE, 4, bytes(1)), 1.0)
    assert end.session.wants() is None


# ---- what we must not do ---------------------------------------------------------------------------------------------


def test_an_answer_to_no_transfer_says_nothing(slow: MemoryDriver) -> None:
    slow.session.acknowledge([], 1.0)
    assert slow.session.data_to_send(1000, 1.0) == []


def test_answers_that_fit_no_transfer(slow: MemoryDriver) -> None:
    answer(slow, segment(WHOLE, 1, b"a") + segment(WHOLE, 2, b"b"))
    for number in (0, 3):
        with pytest.raises(LocalProtocolError):
            slow.session.acknowledge([number], 1.0)
        with pytest.raises(LocalProtocolError):
            slow.session.refuse(number, RefusalCode.UNKNOWN, 1.0)
        with pytest.raises(LocalProtocolError):
            slow.session.accept(number, 1.0)
    slow.session.refuse(2, RefusalCode.UNKNOWN, 1.0)
    with pytest.raises(LocalProtocolError):
        slow.session.acknowledge([2], 1.0)
    with pytest.raises(LocalProtocolError):
        slow.session.refuse(2, RefusalCode.UNKNOWN, 1.0)


def test_answers_after_the_end_have_no_effect(slow: MemoryDriver) -> None:
    answer(slow, segment(WHOLE, 1, b"a"))
    slow.session.connection_lost(2.0)
    slow.session.acknowledge([1], 2.0)
    slow.session.refuse(1, RefusalCode.UNKNOWN, 2.0)
    slow.session.accept(1, 2.0)
    slow.session.body_received(1, 2.0)
    assert slow.write(99, 2.0) == b""
    assert slow.session.state is State.CLOSED


def test_a_lost_connection_aborts_what_was_accepted(end: MemoryDriver) -> None:
    end.feed(segment(START, 1, bytes(LARGE), announce(2 * LARGE)), 1.0)
    end.session.connection_lost(2.0)
    end.turn(2.0)
    text = "the connection was lost"
    assert end.log[1:] == [
        TransferAborted(1, text),
        SessionTerminated(TerminationCode.UNKNOWN, False, False, text),
        Close(),
    ]


def test_octets_without_answer_are_counted_down_by_whole_batches() -> None:
    end = established(SessionConfig(node_id="dtn://here/", unsettled_octets_most=1000))
    end.acknowledges = False
    for turn in range(5):
        numbers = [2 * turn, 2 * turn + 1]
        end.feed(b"".join(segment(WHOLE, number, bytes(500)) for number in numbers), 1.0)
        assert end.session.wants() is None
        end.session.acknowledge(numbers, 1.0)
        assert end.session.wants() is not None


def test_an_empty_refused_transfer_ends_even_where_the_reading_stops() -> None:
    end = established(SessionConfig(node_id="dtn://here/", unsettled_most=2, transfer_mru=1))
    end.acknowledges = False
    end.feed(segment(WHOLE, 1, b"a") + segment(WHOLE, 2, b"", announce(2)) + segment(END, 2, b""), 1.0)
    assert end.session.wants() is None
    end.session.acknowledge([1], 1.0)
    # Transfer 2 had ended: its second END belongs to nothing.
    assert answer(end) == ack(WHOLE, 1, 1) + b"\x06\x03\x01" + refusal(RefusalCode.NO_RESOURCES, 2)
