"""Keepalive, silence, idleness and every other deadline, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.events import Close, SessionTerminated, TransfersLost
from tumpline.machines.tcpcl4.session import Session
from tumpline.machines.tcpcl4.states import State
from tumpline.testing.tcpcl4 import PEER_INIT, Pair, established
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.tcpcl4 import TerminationCode

ACTIVE = SessionConfig(node_id="dtn://active/", keepalive_s=30)
PASSIVE = SessionConfig(node_id="dtn://passive/", keepalive_s=40)


def test_keepalives_hold_an_idle_session() -> None:
    pair = Pair(ACTIVE, PASSIVE).connect()
    before = len(pair.active.sent)
    pair.advance(3600)
    assert pair.active.session.state is pair.passive.session.state is State.ESTABLISHED
    keepalives = bytes(pair.active.sent[before:])
    assert keepalives == wire.KEEPALIVE * len(keepalives)
    assert (
        3600 // 30 <= len(keepalives) <= 3600 // 27
    )  # at most a tenth early (RFC 9174 §5.1.1: when the interval has elapsed)


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_a_keepalive_is_never_late(chance: float) -> None:
    session = Session(ACTIVE, Role.ACTIVE, lambda: chance)
    session.connected(0.0)
    octets = wire.encode_contact(wire.ContactHeader(4, 0)) + wire.encode_init(PEER_INIT)
    session.receive(memoryview(octets[:6]), 0.0)
    session.receive(memoryview(octets[6:]), 0.0)
    session.data_to_send(999, 0.0)
    due = session.next_timeout()
    assert due is not None
    assert 27 <= due <= 30
    session.handle_timeout(due)
    assert session.data_to_send(999, due) == [wire.KEEPALIVE]
    assert session.next_timeout() == pytest.approx(2 * due)


def test_anything_sent_puts_the_keepalive_off() -> None:
    end = established(ACTIVE)
    for now in range(10, 100, 10):
        end.feed(wire.KEEPALIVE, float(now))
        end.offer(now, b"abc", float(now))
        assert end.write(999, float(now))[0] == wire.MessageType.XFER_SEGMENT
        due = end.session.next_timeout()
        assert due is not None
        assert due > now + 26


def test_a_keepalive_does_not_queue_up_behind_a_full_socket() -> None:
    end = established(ACTIVE)
    for now in (30.0, 59.0):
        end.session.handle_timeout(now)
        due = end.session.next_timeout()
        assert due is not None
        assert due > now
    assert end.write(999, 59.5) == wire.KEEPALIVE


def test_no_keepalive_where_one_side_wants_none() -> None:
    pair = Pair(ACTIVE, replace(PASSIVE, keepalive_s=0)).connect()
    before = len(pair.active.sent)
    assert pair.active.session.next_timeout() is None
    pair.advance(100_000)
    assert len(pair.active.sent) == before
    assert pair.active.session.state is State.ESTABLISHED


def test_a_keepalive_that_was_negotiated_away_is_unsupported() -> None:
    """RFC 9174 §5.1.2: "inappropriate for the negotiated session parameters"."""
    end = established(peer=PEER_INIT._replace(keepalive_s=0))
    end.feed(wire.KEEPALIVE, 1.0)
    assert end.write(99, 1.0) == b"\x06\x02\x04"
    assert end.session.state is State.ESTABLISHED


def test_a_silent_peer_is_given_up_after_twice_the_keepalive() -> None:
    """RFC 9174 §5.1.1."""
    pair = Pair(ACTIVE, PASSIVE).connect()
    pair.active.offer(1, b"abc", pair.now)
    pair.is_cut = True
    pair.advance(59)
    assert not pair.active.of(Close)
    pair.advance(2)
    assert pair.active.of(Close)
    assert pair.passive.of(Close)
    (terminated,) = pair.active.of(SessionTerminated)
    assert terminated.reason is TerminationCode.IDLE_TIMEOUT
    assert pair.active.of(TransfersLost) == [TransfersLost([1])]
    assert pair.active.log[-1] == Close()
    assert bytes(pair.active.sent).endswith(b"\x05\x00\x01")


def test_octets_of_a_long_segment_are_signs_of_life() -> None:
    end = established(ACTIVE)
    head = wire.encode_segment_head(wire.SegmentHead(3, 0, b"", FILE_PAYLOAD_OCTETS))
    end.feed(head, 0.0)
    for now in range(20, 2000, 20):
        end.feed(b"x", float(now))
        end.session.handle_timeout(float(now))
    assert end.session.state is State.ESTABLISHED


def test_a_peer_we_do_not_read_is_not_silent() -> None:
    end = established(replace(ACTIVE, unsettled_most=1))
    end.acknowledges = False
    end.feed(wire.SEGMENT_WHOLE.pack(1, 3, 0, 0, 0), 0.0)
    assert end.session.wants() is None
    end.session.handle_timeout(60.0)
    end.turn(60.0)
    assert not end.of(Close)
    end.session.acknowledge([0], 61.0)
    end.session.handle_timeout(119.0)
    end.turn(119.0)
    assert not end.of(Close)
    end.session.handle_timeout(121.0)
    end.turn(121.0)
    assert end.of(Close)


def test_an_idle_session_is_ended_cleanly() -> None:
    """RFC 9174 §6.2: KEEPALIVEs do not count."""
    pair = Pair(replace(ACTIVE, idle_s=100), PASSIVE).connect()
    pair.advance(50)
    pair.active.offer(1, b"abc", pair.now)
    pair.settle()
    pair.advance(99)
    assert pair.active.session.state is State.ESTABLISHED
    pair.advance(2)
    (terminated,) = pair.active.of(SessionTerminated)
    assert (terminated.reason, terminated.clean) == (TerminationCode.IDLE_TIMEOUT, True)
    assert pair.passive.of(SessionTerminated)[0].by_peer


def test_a_session_with_a_transfer_under_way_is_not_idle() -> None:
    pair = Pair(replace(ACTIVE, idle_s=100), PASSIVE).connect()
    pair.passive.acknowledges = False
    pair.active.offer(1, b"abc", pair.now)
    pair.settle()
    pair.advance(1000)
    assert not pair.active.of(Close)
    pair.passive.session.acknowledge([0], pair.now)
    pair.settle()
    pair.advance(101)
    assert pair.active.of(Close)


@pytest.mark.parametrize("role", Role)
def test_no_contact_header_comes(role: Role) -> None:
    """RFC 9174 §4.1: the connection is closed; §6.1: without SESS_TERM."""
    session = Session(replace(ACTIVE, contact_timeout_s=7), role, lambda: 0.0)
    session.connected(100.0)
    session.data_to_send(99, 100.0)
    session.receive(memoryview(b"dtn!\x04"), 103.0)
    assert session.next_timeout() == 107.0
    session.handle_timeout(106.9)
    assert session.state is State.CONTACT
    session.handle_timeout(107.0)
    assert session.events()[-1] == Close()
    assert session.data_to_send(99, 107.0) == []
    assert session.next_timeout() is None


def test_a_tls_handshake_that_never_ends() -> None:
    session = Session(replace(ACTIVE, can_tls=True, tls_timeout_s=7), Role.ACTIVE, lambda: 0.0)
    session.connected(0.0)
    session.data_to_send(99, 0.0)
    session.receive(memoryview(b"dtn!\x04\x01"), 3.0)
    assert session.next_timeout() == 10.0
    session.handle_timeout(10.0)
    assert session.events()[-1] == Close()
    assert session.data_to_send(99, 10.0) == []


@pytest.mark.parametrize("role", Role)
def test_no_session_init_comes(role: Role) -> None:
    """RFC 9174 Figures 8 and 9: Timeout leads to session termination."""
    session = Session(replace(ACTIVE, init_timeout_s=7, ending_timeout_s=2), role, lambda: 0.0)
    session.connected(0.0)
    session.receive(memoryview(b"dtn!\x04\x00"), 3.0)
    session.data_to_send(999, 3.0)
    assert session.next_timeout() == 10.0
    session.handle_timeout(10.0)
    assert session.data_to_send(99, 10.0) == [b"\x05\x00\x01"]
    assert session.next_timeout() == 12.0
    session.handle_timeout(12.0)
    assert session.events()[-1] == Close()


def test_a_peer_that_does_not_finish_while_ending() -> None:
    end = established(replace(ACTIVE, keepalive_s=4, ending_timeout_s=10))
    end.offer(1, b"abc", 1.0)
    end.write(99, 1.0)
    end.session.terminate(TerminationCode.UNKNOWN, 1.0)
    for now in (4.0, 8.0, 10.9):  # neither the peer's KEEPALIVEs nor ours are progress
        end.feed(wire.KEEPALIVE, now)
        end.session.handle_timeout(now)
        end.write(99, now)
        assert end.session.state is State.ENDING
    end.session.handle_timeout(11.0)
    end.turn(11.0)
    assert end.of(TransfersLost) == [TransfersLost([1])]
    (terminated,) = end.of(SessionTerminated)
    assert "did not finish" in terminated.text
    assert not terminated.clean


def test_octets_that_were_left_are_no_sign_of_life() -> None:
    end = established(ACTIVE)
    end.feed(b"\x05", 0.0)  # half a message
    for now in (20.0, 40.0):
        end.turn(now)
    end.session.handle_timeout(60.0)
    end.turn(60.0)
    assert end.of(Close)
    dribbling = established(ACTIVE)
    head = wire.encode_segment_head(wire.SegmentHead(3, 0, b"", 99))
    dribbling.feed(head, 0.0)
    for now in range(20, 200, 20):
        dribbling.feed(b"x", float(now))
        dribbling.session.handle_timeout(float(now))
    assert not dribbling.of(Close)


def test_sending_on_is_progress_while_ending() -> None:
    end = established(replace(ACTIVE, ending_timeout_s=10))
    end.offer(1, bytes(4 << 20), 1.0, whole=False)
    end.write(1, 1.0)
    end.session.terminate(TerminationCode.UNKNOWN, 1.0)
    for now in (9.0, 17.0, 25.0):
        end.write(1, now)
        end.session.handle_timeout(now + 1)
        assert end.session.state is State.ENDING
    end.session.handle_timeout(35.0)
    end.turn(35.0)
    assert end.of(Close)
