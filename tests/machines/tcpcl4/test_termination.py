"""Ending a session from every state, and by every reason (RFC 9174 §6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.events import (
    Close,
    SessionEnding,
    SessionTerminated,
    TransferReceived,
    TransferRefused,
    TransfersAcked,
    TransfersLost,
)
from tumpline.machines.tcpcl4.session import Session
from tumpline.machines.tcpcl4.states import State
from tumpline.testing.tcpcl4 import PEER_INIT, MemoryDriver, Pair, established
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.tcpcl4 import RefusalCode, TerminationCode

CONFIG = SessionConfig(node_id="dtn://here/")
WHOLE = 3


def segment(flags: int, number: int, data: bytes) -> bytes:
    return wire.encode_segment_head(wire.SegmentHead(flags, number, b"", len(data))) + data


def ack(flags: int, number: int, length: int) -> bytes:
    return wire.encode_ack(wire.Acknowledgment(flags, number, length))


def ends(end: MemoryDriver) -> SessionTerminated:
    (event,) = end.of(SessionTerminated)
    assert end.log[-2:] == [event, Close()]
    return event


@pytest.mark.parametrize("reason", TerminationCode)
def test_both_sides_learn_the_reason(reason: TerminationCode) -> None:
    pair = Pair().connect()
    pair.active.session.terminate(reason, pair.now)
    pair.settle()
    assert bytes(pair.active.sent).endswith(bytes([5, 0, reason]))
    assert bytes(pair.passive.sent).endswith(bytes([5, 1, reason]))
    for end, by_peer in ((pair.active, False), (pair.passive, True)):
        event = ends(end)
        assert (event.reason, event.by_peer, event.clean) == (reason, by_peer, True)


def test_a_reason_nobody_knows_is_unknown_but_mirrored() -> None:
    """RFC 9174 §6.1: "identical data content from the message being acknowledged except for the REPLY flag"."""
    end = established()
    end.feed(b"\x05\x80\xf7", 1.0)
    assert end.write(99, 1.0) == b"\x05\x81\xf7"
    assert ends(end).reason is TerminationCode.UNKNOWN


def test_simultaneous_termination() -> None:
    pair = Pair().connect()
    pair.active.session.terminate(TerminationCode.BUSY, pair.now)
    pair.passive.session.terminate(TerminationCode.IDLE_TIMEOUT, pair.now)
    pair.settle()
    assert bytes(pair.active.sent).endswith(b"\x05\x00\x03")  # neither replies: both have sent one
    assert bytes(pair.passive.sent).endswith(b"\x05\x00\x01")
    assert ends(pair.active).clean
    assert ends(pair.passive).clean


def test_transfers_under_way_are_finished_and_none_begins() -> None:
    """RFC 9174 §6.1."""
    pair = Pair().connect()
    pair.most = 1 << 17
    large = bytes(range(256)) * 12_000
    pair.active.offer(1, large, pair.now, whole=False)
    pair.active.offer(2, b"waits", pair.now)
    pair.passive.feed(pair.active.write(1, pair.now), pair.now)  # the first segment
    pair.passive.session.terminate(TerminationCode.BUSY, pair.now)
    pair.settle()
    assert pair.passive.received == {0: large}
    assert pair.active.of(TransfersAcked) == [TransfersAcked([1])]
    assert pair.active.of(TransfersLost) == [TransfersLost([2])]
    assert ends(pair.active).clean
    assert ends(pair.passive).clean


def test_what_waits_for_its_commit_is_finished() -> None:
    pair = Pair().connect()
    pair.passive.acknowledges = False
    pair.active.offer(1, b"abc", pair.now)
    pair.settle()
    pair.active.session.terminate(TerminationCode.UNKNOWN, pair.now)
    pair.settle()
    assert not pair.active.of(SessionTerminated) + pair.passive.of(SessionTerminated)
    pair.passive.session.acknowledge([0], pair.now)
    pair.settle()
    assert pair.active.of(TransfersAcked) == [TransfersAcked([1])]
    assert ends(pair.active).clean
    assert ends(pair.passive).clean


def test_what_is_refused_while_ending_is_finished_too() -> None:
    pair = Pair().connect()
    pair.passive.acknowledges = False
    pair.active.offer(1, b"abc", pair.now)
    pair.settle()
    pair.passive.session.terminate(TerminationCode.UNKNOWN, pair.now)
    pair.settle()
    pair.passive.session.refuse(0, RefusalCode.RETRANSMIT, pair.now)
    pair.settle()
    assert pair.active.of(TransferRefused) == [TransferRefused(1, RefusalCode.RETRANSMIT)]
    assert ends(pair.active).clean
    assert ends(pair.passive).clean


@pytest.mark.parametrize("size", [3, FILE_PAYLOAD_OCTETS])
def test_new_transfers_are_refused_while_ending(size: int) -> None:
    """RFC 9174 §6.1: "SHALL send a XFER_REFUSE with a reason code of "Session Terminating"."""
    end = established()
    end.session.terminate(TerminationCode.UNKNOWN, 1.0)
    assert end.write(99, 1.0) == b"\x05\x00\x00"
    end.feed(segment(WHOLE, 7, bytes(size)), 1.0)
    assert end.write(99, 1.0) == wire.encode_refusal(wire.Refusal(RefusalCode.SESSION_TERMINATING, 7))
    end.feed(b"\x05\x01\x00", 1.0)
    assert ends(end).clean
    assert end.received == {}


def test_a_transfer_that_began_before_is_taken_while_ending() -> None:
    end = established()
    end.feed(segment(2, 7, b"abc"), 1.0)
    end.session.terminate(TerminationCode.UNKNOWN, 1.0)
    end.feed(b"\x05\x01\x00" + segment(1, 7, b"def"), 1.0)
    assert end.received == {7: b"abcdef"}
    assert end.write(99, 1.0) == ack(2, 7, 3) + b"\x05\x00\x00" + ack(1, 7, 6)
    assert ends(end).clean


def test_a_large_transfer_that_began_before_is_taken_while_ending() -> None:
    end = established()
    data = bytes(FILE_PAYLOAD_OCTETS)
    octets = segment(WHOLE, 7, data)
    end.feed(octets[:5000], 1.0)
    end.feed(b"", 1.0)
    end.session.terminate(TerminationCode.UNKNOWN, 1.0)
    end.feed(octets[5000:] + b"\x05\x01\x00", 1.0)
    assert end.of(TransferReceived) == [TransferReceived(7)]
    assert ends(end).clean


def test_sending_while_ending_is_a_loss() -> None:
    end = established()
    end.session.terminate(TerminationCode.UNKNOWN, 1.0)
    end.offer(5, b"abc", 1.0)
    end.turn(1.0)
    assert end.log == [
        SessionEnding(TerminationCode.UNKNOWN, False, "terminated here"),
        TransfersLost([5]),
    ]
    assert end.write(99, 1.0) == b"\x05\x00\x00"


def test_terminating_again_changes_nothing() -> None:
    end = established()
    end.session.terminate(TerminationCode.BUSY, 1.0)
    end.session.terminate(TerminationCode.UNKNOWN, 1.0)
    assert end.write(99, 1.0) == b"\x05\x00\x03"
    end.feed(b"\x05\x01\x03", 1.0)
    end.session.terminate(TerminationCode.UNKNOWN, 1.0)
    assert end.write(99, 1.0) == b""
    assert ends(end).reason is TerminationCode.BUSY


def test_a_second_sess_term_is_unexpected() -> None:
    end = established()
    end.acknowledges = False
    end.feed(segment(WHOLE, 1, b"a") + b"\x05\x00\x03" + b"\x05\x00\x03", 1.0)
    assert end.write(99, 1.0) == b"\x05\x01\x03" + b"\x06\x03\x05"


def test_an_unknown_message_type_closes_at_once() -> None:
    """RFC 9174 §5.1.2, §8.5: "not even a clean termination can be done at that point"."""
    for kind in (0x00, 0x08, 0xEF, 0xF0, 0xFF):
        end = established()
        end.feed(segment(WHOLE, 1, b"a") + bytes([kind, 1, 2, 3]), 1.0)
        assert end.write(99, 1.0) == bytes([6, 1, kind]) or end.write(99, 1.0) == b""
        assert bytes(end.sent).endswith(bytes([6, 1, kind]))
        assert not ends(end).clean
        assert end.unread == 0 or end.session.wants() is None


@pytest.mark.parametrize("tls", [False, True])
def test_terminate_before_messages_are_possible(tls: bool) -> None:
    """RFC 9174 §4.4.3: there is no session to terminate yet: the connection is closed."""
    config = replace(CONFIG, can_tls=tls)
    for octets in (b"", b"dtn!\x04", b"dtn!\x04\x01" if tls else b"dtn"):
        session = Session(config, Role.ACTIVE, lambda: 0.0)
        session.connected(0.0)
        assert session.data_to_send(99, 0.0) == [wire.encode_contact(wire.ContactHeader(4, int(tls)))]
        session.receive(memoryview(octets), 0.0)
        session.events()
        session.terminate(TerminationCode.BUSY, 0.0)
        assert session.data_to_send(99, 0.0) == []
        assert session.events()[-1] == Close()
        assert session.state is State.CLOSED
        assert session.next_timeout() is None


def test_terminate_before_the_connection() -> None:
    session = Session(CONFIG, Role.ACTIVE, lambda: 0.0)
    session.terminate(TerminationCode.UNKNOWN, 0.0)
    assert session.events()[-1] == Close()
    session.connection_lost(0.0)
    assert session.events() == []


@pytest.mark.parametrize("role", Role)
def test_terminate_while_waiting_for_session_init(role: Role) -> None:
    end = MemoryDriver(CONFIG, role)
    end.session.connected(0.0)
    end.feed(b"dtn!\x04\x00", 0.0)
    end.session.terminate(TerminationCode.BUSY, 0.0)
    end.write(999, 0.0)
    assert bytes(end.sent).endswith(b"\x05\x00\x03")
    end.feed(wire.encode_init(PEER_INIT) + b"\x05\x01\x03", 0.0)  # the peer's SESS_INIT had crossed
    assert end.write(99, 0.0) == b""
    assert ends(end).clean


@pytest.mark.parametrize("role", Role)
def test_the_peer_terminates_instead_of_session_init(role: Role) -> None:
    """RFC 9174 §4.2: "either entity MAY refuse the session by sending a SESS_TERM message"."""
    end = MemoryDriver(CONFIG, role)
    end.session.connected(0.0)
    end.feed(b"dtn!\x04\x00\x05\x00\x03", 0.0)
    end.write(999, 0.0)
    assert bytes(end.sent).endswith(b"\x05\x01\x03")
    assert (ends(end).reason, ends(end).by_peer, ends(end).clean) == (TerminationCode.BUSY, True, True)


def test_the_connection_is_lost_while_ending() -> None:
    end = established()
    end.offer(1, b"abc", 1.0)
    end.write(99, 1.0)
    end.session.terminate(TerminationCode.BUSY, 1.0)
    end.session.connection_lost(1.0)
    end.turn(1.0)
    assert end.of(TransfersLost) == [TransfersLost([1])]
    assert not ends(end).clean
    assert "connection was lost" in ends(end).text
