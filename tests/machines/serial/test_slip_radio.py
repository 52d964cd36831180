"""Contiki-NG's slip-radio, from the host's side, in virtual time."""

from __future__ import annotations

from tumpline.machines.serial._api import SerialConfig
from tumpline.machines.serial._settings import REPEAT_S, TIMES_MOST
from tumpline.machines.serial.line import SerialLine
from tumpline.machines.serial.slip_radio import NUMBERS, REPORT_S, UNDER_WAY_MOST, WAITING_MOST, SlipRadioDialect
from tumpline.wire.radio import decode_facts_untrusted
from tumpline.wire.slip import decode_slip_untrusted, encode_slip

FRAME = bytes.fromhex("418807cdabffff0100") + b"payload"


PLAIN = SerialConfig()


def opened(config: SerialConfig = PLAIN) -> SlipRadioDialect:
    dialect = SlipRadioDialect(config)
    dialect.opened(0.0)
    return dialect


def commands(dialect: SlipRadioDialect) -> list[bytes]:
    line = b"".join(dialect.writes())
    return [decode_slip_untrusted(each) for each in line.split(b"\xc0") if each]


def numbers(dialect: SlipRadioDialect) -> list[int]:
    return [command[2] for command in commands(dialect) if command[:2] == b"!S"]


def report(number: int, status: int = 0, transmissions: int = 1) -> bytes:
    return encode_slip(bytes([0x21, 0x52, number, status, transmissions]))


def radio(dialect: SlipRadioDialect) -> dict[str, int]:
    counters: dict[str, int] = dialect.snapshot()["radio"]
    return counters


def test_what_it_is_told_when_the_line_opens() -> None:
    dialect = opened(SerialConfig(channel=15, pan_id=0xABCD, short_address=7, is_passive=True))
    channel, pan_id, address, mode = b"\0\1\0\x0f", b"\0\2\xab\xcd", b"\0\3\0\7", b"\0\4\0\0"
    told = [command for each in (channel, pan_id, address, mode) for command in (b"!V" + each, b"?V" + each[:2])]
    assert commands(dialect) == [b"?M", *told]
    dialect.receive(b"".join(encode_slip(b"!V" + each) for each in (channel, address, mode)), 0.1)
    assert dialect.next_timeout() == REPEAT_S
    dialect.handle_timeout(REPEAT_S)
    assert commands(dialect) == [b"!V\0\2\xab\xcd", b"?V\0\2"]
    dialect.receive(encode_slip(b"!V\0\2\xab\xcd"), 1.1)
    assert dialect.next_timeout() is None
    assert (dialect.channel, dialect.snapshot()["pan_id"]) == (15, 0xABCD)


def test_a_radio_that_never_answers_is_left_alone() -> None:
    dialect = opened()
    for count in range(1, TIMES_MOST):
        assert dialect.next_timeout() == count * REPEAT_S
        dialect.handle_timeout(count * REPEAT_S)
        assert commands(dialect)
    assert dialect.next_timeout() is None


def test_no_more_is_under_way_than_the_radio_can_hold() -> None:
    dialect = opened()
    commands(dialect)
    assert dialect.send([FRAME] * 6, 1.0) == 0
    first = numbers(dialect)
    assert len(first) == UNDER_WAY_MOST
    dialect.receive(report(first[0]), 1.1)
    assert len(numbers(dialect)) == 1
    dialect.receive(report(first[0]), 1.1)  # twice the same
    assert numbers(dialect) == []
    assert radio(dialect)["acknowledged"] == 1


def test_numbers_go_round() -> None:
    dialect = opened()
    seen = []
    for _ in range(2 * NUMBERS):
        dialect.send([FRAME], 1.0)
        seen += numbers(dialect)
        dialect.receive(report(seen[-1]), 1.0)
    assert sorted(set(seen)) == list(range(NUMBERS))


def test_what_became_of_each() -> None:
    dialect = opened()
    dialect.send([FRAME] * 4, 1.0)
    one, two, three, four = numbers(dialect)
    dialect.receive(report(one) + report(two, 2, 4) + report(three, 1, 3), 1.1)
    assert dialect.next_timeout() == REPEAT_S  # of the settings
    dialect.handle_timeout(1.0 + REPORT_S)
    expected = {"acknowledged": 1, "unacknowledged": 1, "failed": 1, "unreported": 1, "transmissions": 8, "errors": 0}
    assert radio(dialect) == expected
    dialect.receive(report(four), 2.5)  # too late
    assert radio(dialect) == expected


def test_a_slow_radio_costs_frames_not_memory() -> None:
    dialect = opened()
    assert dialect.send([FRAME] * 100, 1.0) == 100 - WAITING_MOST
    assert dialect.send([FRAME] * 100, 1.0) == 100 - UNDER_WAY_MOST


def test_unplugged_everything_begins_anew() -> None:
    dialect = opened()
    dialect.send([FRAME] * 10, 1.0)
    dialect.opened(2.0)
    assert commands(dialect) == [b"?M", b"?V\0\1"]
    assert radio(dialect)["unreported"] == 10
    dialect.send([FRAME], 2.0)
    assert len(numbers(dialect)) == 1


def test_frames_among_text_and_reports() -> None:
    dialect = opened()
    line = encode_slip(b"\rSlip Radio started\n") + encode_slip(FRAME) + encode_slip(b"EUnknown command")
    assert dialect.receive(b"noise" + line, 1.0) == [FRAME]
    assert dialect.snapshot()["said"] == "EUnknown command"
    assert radio(dialect)["errors"] == 1


def test_an_impossible_channel_is_only_a_number() -> None:
    config = SerialConfig()
    line = SerialLine(config, opened())
    batch = line.receive(encode_slip(b"!V\0\1\xff\xff") + encode_slip(FRAME), 1.0)
    assert batch is not None
    assert [decode_facts_untrusted(record.offload).channel for record in batch.records()] == [0xFFFF]
