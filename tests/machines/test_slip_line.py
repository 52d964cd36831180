"""A serial line cut into frames: every framing, any chunking, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.slip_line import SlipLine
from tumpline.wire.slip import encode_slip

FRAMES = [b"\x01", b"frame\xc0two", b"\xdb\xdc", b"last"]
END = b"\xc0"


def bare(frame: bytes) -> bytes:
    return encode_slip(frame)[1:-1]


@pytest.mark.parametrize(
    "line",
    [
        b"".join(encode_slip(frame) for frame in FRAMES),
        b"".join(bare(frame) + END for frame in FRAMES),
        END + END.join(bare(frame) for frame in FRAMES) + END,
        END * 3 + (END * 3).join(bare(frame) for frame in FRAMES) + END,
    ],
    ids=["END before and behind", "END behind", "END between", "idle ENDs"],
)
def test_every_framing(line: bytes) -> None:
    assert SlipLine().receive(line) == FRAMES
    one_by_one = SlipLine()
    assert [frame for octet in line for frame in one_by_one.receive(bytes([octet]))] == FRAMES


def test_the_rest_of_a_frame_whose_beginning_was_missed_is_none() -> None:
    line = SlipLine(from_start=False)
    assert line.receive(b"rest" + END + b"whole" + END) == [b"whole"]
    assert line.counts.malformed == 0


def test_a_malformed_frame_costs_itself_only() -> None:
    line = SlipLine()
    assert line.receive(END + b"\xdb\x00" + END + b"good" + END) == [b"good"]
    assert (line.counts.received, line.counts.malformed) == (1, 1)


def test_a_frame_that_never_ends_takes_no_memory() -> None:
    line = SlipLine(frame_octets_most=100)
    for _ in range(1000):
        assert line.receive(bytes(100)) == []
    assert line.receive(END + b"next" + END) == [b"next"]
    assert line.counts.too_long == 1


def test_the_bound_is_of_the_frame_not_of_its_escapes() -> None:
    line = SlipLine(frame_octets_most=100)
    longest = b"\xc0" * 100
    assert line.receive(encode_slip(longest)) == [longest]
    assert line.receive(encode_slip(bytes(101))) == []
    assert line.counts.too_long == 1


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=10), st.lists(st.integers(1, 9), min_size=1))
def test_any_chunking(frames: list[bytes], sizes: list[int]) -> None:
    octets = b"".join(encode_slip(frame) for frame in frames)
    line, found, at = SlipLine(), [], 0
    while at < len(octets):
        size = sizes[at % len(sizes)]
        found += line.receive(octets[at : at + size])
        at += size
    assert found == frames
