"""SLIP: any octets of a serial line."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.machines.slip_line import SlipLine
from tumpline.wire.slip import encode_slip

_FRAME_OCTETS_MOST = 128


def seeds() -> list[bytes]:
    """Each way to write ENDs, with octets to escape."""
    frames = [b"\x41\x88\x01\xcd\xab\xff\xff", b"\xc0\xdb\xdc\xdd", bytes(_FRAME_OCTETS_MOST)]
    both = b"".join(map(encode_slip, frames))
    return [both, both.replace(b"\xc0\xc0", b"\xc0"), both[1:], b"\xc0" * 9]


def run(data: bytes) -> bool:
    """However it is cut, the frames are the same, and none is too long."""
    whole, halves = SlipLine(frame_octets_most=_FRAME_OCTETS_MOST), SlipLine(frame_octets_most=_FRAME_OCTETS_MOST)
    frames = whole.receive(data)
    middle = len(data) // 2
    assert frames == halves.receive(data[:middle]) + halves.receive(data[middle:]), "it depends on the reads"
    assert whole.counts == halves.counts, "it depends on the reads"
    assert all(0 < len(frame) <= _FRAME_OCTETS_MOST for frame in frames), "an empty or a long frame"
    assert len(frames) == whole.counts.received, "not counted"
    return not (whole.counts.malformed or whole.counts.too_long)


# One octet between two ENDs is a value of 34 octets and its place in a list.
TARGET = Target("slip", "frames of a serial line", seeds, run, peak_base=64 << 10, peak_factor=96)
