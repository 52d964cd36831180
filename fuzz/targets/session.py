"""A TCPCLv4 session that reads mutated octets of a real one, cut anywhere."""

from __future__ import annotations

from random import Random

from fuzz import corpus
from fuzz.harness import Target
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.events import (
    Close,
    SessionTerminated,
    TransferAborted,
    TransferReceived,
    TransferRefused,
    TransfersAcked,
    TransfersLost,
    TransferStarted,
)
from tumpline.machines.tcpcl4.states import State
from tumpline.testing.tcpcl4 import MemoryDriver
from tumpline.wire.tcpcl4 import TerminationCode

UNITS = 3
PIECES_MOST = 300  # of one input
# First octet of an input: the role of the end that reads. Second: how the octets are cut.
_ROLES = (Role.PASSIVE, Role.ACTIVE)
CONFIG = SessionConfig(node_id="dtn://here/", segment_mru=1 << 20)
_END_REASONS = frozenset(TerminationCode)


def seeds() -> list[bytes]:
    """What each side wrote, for the other to read; whole, and cut."""
    found = []
    for role in (0, 1):
        for stream in corpus.streams(from_client=role == 0):
            found += [bytes([role, cut]) + stream for cut in (0, 7)]
    return found


def run(data: bytes) -> bool:
    """Whatever comes, in whatever pieces: only documented outcomes, the same for any cuts; and the end ends everything."""
    role, cut, stream = _ROLES[data[0] & 1 if data else 0], data[1] if len(data) > 1 else 0, data[2:]
    end = _converse(role, _pieces(stream, cut))
    if cut:
        whole = _converse(role, [stream])
        assert _outcome(end) == _outcome(whole), "the outcome depends on how the octets were cut"
    accepted = end.session.established is not None
    end.session.connection_lost(2.0)
    end.turn(2.0)
    assert end.session.state is State.CLOSED, "a session outlives its connection"
    _judge(end)
    return accepted


def _pieces(stream: bytes, cut: int) -> list[bytes]:
    """The stream in pieces; 0: in one."""
    chance, offset = Random(cut), 0
    pieces: list[bytes] = []
    while cut and offset < len(stream) and len(pieces) < PIECES_MOST:
        size = chance.choice([1, 1, 2, 5, 19, 22, 300, 5_000, 70_000])
        pieces.append(stream[offset : offset + size])
        offset += size
    return [*pieces, stream[offset:]]


def _converse(role: Role, pieces: list[bytes]) -> MemoryDriver:
    end = MemoryDriver(CONFIG, role)
    end.acknowledges = False  # at the end: with each piece, acknowledgements would stand elsewhere among the answers
    end.session.connected(0.0)
    for piece in pieces:
        end.feed(piece, 1.0)
        if end.session.state is State.ESTABLISHED and not end.units:
            for token in range(UNITS):
                end.offer(token, b"unit", 1.0)
    end.session.acknowledge(end.unanswered, 1.0)
    end.write(1 << 20, 1.0)
    _judge(end)
    return end


def _outcome(end: MemoryDriver) -> tuple[object, ...]:
    """What the peer and the node see; units of ours leave when the driver writes, so they are no part of it."""
    return (
        end.received,
        [(event.reason, event.text) for event in end.of(SessionTerminated)],
        [event.transfer for event in end.of(TransferStarted)],
        end.session.state,
    )


def _judge(end: MemoryDriver) -> None:
    """What must hold at every moment."""
    terminated, closed = end.of(SessionTerminated), end.session.state is State.CLOSED
    assert end.is_closed == closed
    assert len(terminated) == len(end.of(Close)) == int(closed), "the end is told once"
    assert all(event.reason in _END_REASONS and event.text for event in terminated), "an end without a reason"
    ended = [token for event in end.of(TransfersAcked) for token in event.tokens]
    ended += [token for event in end.of(TransfersLost) for token in event.tokens]
    ended += [event.token for event in end.of(TransferRefused)]
    assert len(ended) == len(set(ended)), "a unit ended twice"
    assert set(ended) <= set(end.units), "a unit ended that nobody sent"
    if closed:
        assert set(ended) == set(end.units), "a unit never ended"
        assert end.session.wants() is None, "a closed session wants to read"
        assert end.session.next_timeout() is None, "a closed session has a deadline"
    over = len(end.of(TransferReceived)) + len(end.of(TransferAborted))
    assert over <= len(end.of(TransferStarted)), "a large transfer ended twice"


# The driver of this test keeps all octets: those to be read (twice, as it takes a piece from the front), those in sinks
# and those received. A message of one octet, KEEPALIVE, that is not in place is answered with three, in an object of some 40
# octets, and one of three, MSG_REJECT, becomes an event of some 200.
TARGET = Target("session", "TCPCLv4 session", seeds, run, peak_base=1 << 20, peak_factor=128)
