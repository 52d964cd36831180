"""Segment sizes follow the time of acknowledgements, within their bounds."""

from __future__ import annotations

from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.machines.tcpcl4.events import BodyRange
from tumpline.machines.tcpcl4.sizing import SegmentSizer
from tumpline.testing.tcpcl4 import PEER_INIT, MemoryDriver, established
from tumpline.wire import tcpcl4 as wire


def test_it_finds_the_size_that_takes_the_target_time() -> None:
    sizer = SegmentSizer(first=1000, least=100, most=10**9, target_s=0.5)
    for _ in range(40):
        sizer.sample(sizer.octets, sizer.octets / 10_000_000)  # 10 MB/s
    assert 4_500_000 < sizer.octets < 5_500_000
    for _ in range(40):
        sizer.sample(sizer.octets, sizer.octets / 10_000)
    assert 4_500 < sizer.octets < 5_500


def test_it_keeps_its_bounds() -> None:
    sizer = SegmentSizer(first=1000, least=100, most=2000, target_s=0.5)
    for _ in range(9):
        sizer.sample(sizer.octets, 0.0)
    assert sizer.octets == 2000
    for _ in range(9):
        sizer.sample(sizer.octets, 1000.0)
    assert sizer.octets == 100


def test_the_peers_mru_wins_over_every_other_bound() -> None:
    assert SegmentSizer(first=1000, least=500, most=10, target_s=0.5).octets == 10


def test_one_sample_at_most_doubles_or_halves() -> None:
    sizer = SegmentSizer(first=1000, least=1, most=10**9, target_s=1.0)
    sizer.sample(1000, 0.0001)
    assert sizer.octets == 2000
    sizer.sample(2000, 99.0)
    assert sizer.octets == 1000


def test_a_short_segment_proves_nothing_about_long_ones() -> None:
    sizer = SegmentSizer(first=1000, least=1, most=10**9, target_s=1.0)
    sizer.sample(10, 0.0001)
    assert sizer.octets == 1000


CONFIG = SessionConfig(
    node_id="dtn://here/", segment_octets_first=1000, segment_octets_least=500, segment_octets_most=4000
)


def segment_sizes(end: MemoryDriver, now: float) -> list[int]:
    pieces = end.session.data_to_send(1 << 20, now)
    return [piece.length for piece in pieces if isinstance(piece, BodyRange)]


def test_a_session_follows_its_acknowledgements() -> None:
    end = established(CONFIG)
    end.session.send(1, 3000, None, 10.0)
    assert segment_sizes(end, 10.0) == [1000, 1000, 1000]
    end.feed(wire.encode_ack(wire.Acknowledgment(2, 0, 1000)), 10.1)
    end.session.send(2, 5000, None, 11.0)
    assert segment_sizes(end, 11.0) == [2000, 2000, 1000]


def test_end_acknowledgements_are_no_samples() -> None:
    """They include the receiver's commit."""
    end = established(CONFIG)
    end.session.send(1, 2000, None, 10.0)
    end.session.send(2, 1000, None, 10.0)
    assert segment_sizes(end, 10.0) == [1000, 1000, 1000]
    end.feed(wire.encode_ack(wire.Acknowledgment(2, 0, 1000)), 10.5)
    assert segment_sizes(end, 10.5) == []
    end.feed(wire.encode_ack(wire.Acknowledgment(1, 0, 2000)), 99.0)
    end.feed(wire.encode_ack(wire.Acknowledgment(3, 1, 1000)), 99.0)
    end.session.send(3, 2000, None, 99.0)
    assert segment_sizes(end, 99.0) == [1000, 1000]


def test_small_transfers_above_the_size_are_cut_too() -> None:
    end = established(CONFIG, PEER_INIT._replace(segment_mru=700))
    end.offer(1, bytes(1500), 1.0)
    octets = end.write(1 << 20, 1.0)
    assert len(octets) == 1500 + (22 + 13) + 18 + 18
