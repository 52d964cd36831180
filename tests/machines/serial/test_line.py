"""Which frames cross between a line and the overlay, and in which form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.packets import PacketKind, batch_of
from tumpline.machines.serial._api import SerialConfig, Trailer
from tumpline.machines.serial._recent import RECENT_MOST, RECENT_S, Recent
from tumpline.machines.serial.dialects import DIALECTS
from tumpline.machines.serial.line import SerialLine
from tumpline.machines.serial.slip import JOINED_LATE_S
from tumpline.wire.dot15d4 import fcs
from tumpline.wire.radio import RadioFacts, decode_facts_untrusted
from tumpline.wire.slip import encode_slip

FRAME = bytes.fromhex("418807cdabffff0100") + b"payload"
OTHER = bytes.fromhex("418808cdabffff0200") + b"other"
ACK = bytes.fromhex("020007")


PLAIN = SerialConfig()


def opened(config: SerialConfig = PLAIN, dialect: str = "slip") -> SerialLine:
    line = SerialLine(config, DIALECTS[dialect].open(config))
    line.opened(0.0)
    return line


def heard(line: SerialLine, *frames: bytes, now: float = 1.0) -> list[tuple[RadioFacts, bytes]]:
    batch = line.receive(b"".join(map(encode_slip, frames)), now)
    return [(decode_facts_untrusted(facts), bytes(frame)) for facts, frame in batch.records()] if batch else []


def sent(line: SerialLine, *frames: bytes) -> list[bytes]:
    line.send(batch_of(PacketKind.FRAME, frames), 1.0)
    return line.writes()


def test_a_probe_without_fcs() -> None:
    line = opened(SerialConfig(channel=11))
    assert heard(line, FRAME) == [(RadioFacts(channel=11), FRAME)]
    assert sent(line, OTHER) == [encode_slip(OTHER)]


def test_a_probe_with_fcs() -> None:
    line = opened(SerialConfig(Trailer.FCS))
    whole = FRAME + fcs(FRAME)
    assert heard(line, whole, FRAME + b"\0\0", whole) == [(RadioFacts(fcs=fcs(FRAME)), FRAME)] * 2
    assert sent(line, OTHER) == [encode_slip(OTHER + fcs(OTHER))]
    assert (line.counts.packets_out, line.counts.bad_fcs, line.counts.packets_in) == (2, 1, 1)


def test_a_probe_with_metadata() -> None:
    line = opened(SerialConfig(Trailer.METADATA))
    found = heard(line, FRAME + b"\xb0\xe4", FRAME + b"\x05\x80", FRAME + b"\xb0\x64")
    assert found == [(RadioFacts(-80, 0x64), FRAME), (RadioFacts(5, 0), FRAME)]
    assert line.counts.bad_fcs == 1
    assert sent(line, OTHER) == [encode_slip(OTHER)]


def test_acknowledgements_stay_where_they_are() -> None:
    line = opened()
    assert heard(line, ACK, FRAME) == [(RadioFacts(), FRAME)]
    assert sent(line, ACK, OTHER) == [encode_slip(OTHER)]
    assert line.counts.acknowledgements == 2


def test_a_passive_line() -> None:
    line = opened(SerialConfig(is_passive=True))
    assert [frame for _, frame in heard(line, ACK, FRAME)] == [ACK, FRAME]
    assert sent(line, FRAME) == []
    assert line.counts.dropped == 1


@pytest.mark.parametrize("length", [1, 2, 126, 300])
def test_what_is_no_frame(length: int) -> None:
    line = opened()
    assert heard(line, bytes([0x41]) * length, FRAME) == [(RadioFacts(), FRAME)]
    assert sent(line, bytes([0x41]) * length, OTHER) == [encode_slip(OTHER)]
    assert line.counts.malformed in (1, 2)  # the longest ones already the SLIP line drops


def test_the_longest_frame() -> None:
    longest = bytes([0x41]) * 125
    assert heard(opened(), longest) == [(RadioFacts(), longest)]
    jumbo = bytes([0x41]) * 2045
    assert heard(opened(SerialConfig(octets_most=2047)), jumbo) == [(RadioFacts(), jumbo)]


def test_who_joins_late_takes_no_end_of_a_frame_for_a_frame() -> None:
    bare = encode_slip(FRAME)[1:]
    assert heard_raw(opened(), bare[3:] + bare, JOINED_LATE_S / 2) == [FRAME]
    assert heard_raw(opened(), bare + bare, 2 * JOINED_LATE_S) == [FRAME, FRAME]


def heard_raw(line: SerialLine, octets: bytes, now: float) -> list[bytes]:
    batch = line.receive(octets, now)
    return [bytes(record.packet) for record in batch.records()] if batch else []


@given(st.lists(st.binary(min_size=1, max_size=140), max_size=8), st.sampled_from(Trailer))
def test_each_frame_is_counted_once(frames: list[bytes], trailer: Trailer) -> None:
    line = opened(SerialConfig(trailer))
    found = heard(line, *frames)
    counts, slip = line.counts, line.snapshot()["slip"]
    assert len(found) == counts.packets_out
    crossed = counts.packets_out + counts.bad_fcs + counts.malformed + counts.acknowledgements
    assert crossed + slip["malformed"] + slip["too_long"] == len(frames)


def test_what_was_in_this_air_a_moment_ago_is_not_sent_into_it() -> None:
    line = opened()
    heard(line, FRAME, now=1.0)
    assert sent(line, FRAME, FRAME[::-1]) == [encode_slip(FRAME[::-1])]
    assert sent(line, FRAME[::-1]) == []
    assert line.counts.echoes == 2
    line.send(batch_of(PacketKind.FRAME, [FRAME]), 1.0 + RECENT_S)
    assert line.writes() == [encode_slip(FRAME)]


def test_what_we_sent_is_not_passed_on_when_somebody_says_it_again() -> None:
    line = opened()
    sent(line, FRAME)
    assert heard(line, FRAME) == []
    assert heard(line, FRAME, now=1.0 + RECENT_S) == [(RadioFacts(), FRAME)]


def test_what_a_radio_repeats_is_passed_on_each_time() -> None:
    assert [frame for _, frame in heard(opened(), FRAME, FRAME)] == [FRAME, FRAME]


def test_memory_of_frames_is_bounded() -> None:
    recent = Recent()
    for number in range(3 * RECENT_MOST):
        recent.add(number.to_bytes(4, "big"), 1.0)
    assert len(recent) == RECENT_MOST
    recent.add(b"late", 1.0 + RECENT_S)
    assert len(recent) == 1


def test_a_probe_that_leaves_the_fcs_unexpectedly_is_told_of() -> None:
    line = opened()
    heard(line, *(OTHER[:2] + bytes([number]) + OTHER[3:] for number in range(9)))
    assert line.problem == ""
    heard(line, *(each + fcs(each) for each in (OTHER[:2] + bytes([number]) + OTHER[3:] for number in range(3))))
    assert "write --trailer fcs" in line.problem
