"""A peer that floods a session with messages that move no transfer is sent away; one that is only lively is not."""

from __future__ import annotations

import pytest

from tumpline.machines.tcpcl4.events import SessionTerminated
from tumpline.machines.tcpcl4.session import Session
from tumpline.machines.tcpcl4.states import State
from tumpline.testing.tcpcl4 import PEER_INIT, MemoryDriver, established
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.tcpcl4 import SegmentFlag, TerminationCode

FLOODS = {
    "KEEPALIVE": wire.KEEPALIVE,
    "SESS_INIT": wire.encode_init(PEER_INIT),
    "MSG_REJECT": wire.encode_rejection(wire.Rejection(3, wire.MessageType.KEEPALIVE)),
    "acknowledgements of nothing": wire.encode_ack(wire.Acknowledgment(3, 77, 5)),
    "refusals of nothing": wire.encode_refusal(wire.Refusal(1, 77)),
    "segments of no transfer": wire.encode_segment_head(wire.SegmentHead(0, 77, b"", 0)),
}
MESSAGES = 100_000


def assert_sent_away(end: MemoryDriver) -> None:
    [terminated] = end.of(SessionTerminated)
    assert terminated.reason is TerminationCode.RESOURCE_EXHAUSTION
    assert "floods" in terminated.text
    assert end.session.state is State.CLOSED


@pytest.mark.parametrize("message", FLOODS.values(), ids=FLOODS)
def test_a_flood_ends_the_session(message: bytes) -> None:
    end = established()
    end.feed(message * MESSAGES, 1.0)
    assert_sent_away(end)
    assert len(end.write(1 << 20, 1.0)) < 10_000, "little was answered before"


def test_a_flood_of_empty_segments_of_a_transfer_ends_the_session() -> None:
    end = established()
    end.feed(wire.encode_segment_head(wire.SegmentHead(SegmentFlag.START, 1, b"", 0)), 1.0)
    end.feed(wire.encode_segment_head(wire.SegmentHead(0, 1, b"", 0)) * MESSAGES, 1.0)
    assert_sent_away(end)


def test_keepalives_that_piled_up_in_an_hour_are_no_flood() -> None:
    end = established()
    end.feed(wire.KEEPALIVE * 3600, 3600.0)
    assert end.session.state is State.ESTABLISHED


def test_lively_peers_stay() -> None:
    end = established()
    for second in range(1, 200):
        end.feed(wire.KEEPALIVE * 90, float(second))
    assert end.session.state is State.ESTABLISHED
    assert isinstance(end.session, Session)
