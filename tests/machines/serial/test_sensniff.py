"""A sensniff peripheral, from the host's side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.serial._api import SerialConfig
from tumpline.machines.serial._settings import REPEAT_S
from tumpline.machines.serial.sensniff import SILENCE_S, SensniffDialect
from tumpline.wire.sensniff import ASK_CHANNEL, LEGACY_MAGIC, MAGIC, encode_set_channel

FRAME = bytes.fromhex("418807cdabffff0100") + b"payload\xb0\xe4"
ONE = MAGIC + bytes([1, 0, len(FRAME)]) + FRAME
TWO = MAGIC + bytes([2, 0, 0, len(FRAME)]) + FRAME
LEGACY = LEGACY_MAGIC + bytes([len(FRAME)]) + FRAME
CHANNEL_26 = MAGIC + bytes([2, 1, 0, 1, 26])


PLAIN = SerialConfig()


def opened(config: SerialConfig = PLAIN) -> SensniffDialect:
    dialect = SensniffDialect(config)
    dialect.opened(0.0)
    return dialect


@pytest.mark.parametrize("message", [ONE, TWO, LEGACY], ids=["version 1", "version 2", "before"])
def test_every_version(message: bytes) -> None:
    assert opened().receive(b"Contiki 2.6\r\n" + message + b"\r\nhello" + message, 1.0) == [FRAME, FRAME]


def test_the_channel_is_asked_for_in_both_versions_until_one_is_known() -> None:
    dialect = opened()
    assert dialect.writes() == [ASK_CHANNEL[2], ASK_CHANNEL[1]]
    dialect.receive(ONE, 0.1)
    dialect.handle_timeout(REPEAT_S)
    assert dialect.writes() == [ASK_CHANNEL[1]]
    dialect.receive(MAGIC + bytes([1, 1, 1, 20]), 1.1)
    assert (dialect.channel, dialect.next_timeout()) == (20, None)


def test_a_channel_is_set_until_it_is_so() -> None:
    dialect = opened(SerialConfig(channel=15))
    assert dialect.writes() == [encode_set_channel(2, 15), encode_set_channel(1, 15)]
    dialect.receive(CHANNEL_26, 0.5)
    dialect.handle_timeout(REPEAT_S)
    assert dialect.writes() == [encode_set_channel(2, 15)]
    dialect.receive(MAGIC + bytes([2, 0x7F, 0, 0]), 1.1)
    assert dialect.snapshot()["sensniff"]["not_supported"] == 1


def test_a_lost_octet_costs_two_frames_at_most() -> None:
    dialect = opened()
    assert dialect.receive(TWO[:-3] + TWO[-2:] + TWO + TWO, 1.0)[-1] == FRAME


def test_what_ends_in_the_middle_is_given_up() -> None:
    dialect = opened()
    assert dialect.receive(TWO[:12], 1.0) == []
    assert dialect.receive(TWO, 1.1 + SILENCE_S) == [FRAME]


def test_an_impossible_length_is_none() -> None:
    dialect = opened()
    assert dialect.receive(MAGIC + bytes([2, 0, 0xFF, 0xFF]) + TWO, 1.0) == [FRAME]
    assert dialect.snapshot()["sensniff"]["malformed"] == 1


@given(st.lists(st.sampled_from([ONE, TWO, LEGACY, CHANNEL_26]), max_size=6), st.lists(st.integers(1, 9), min_size=1))
def test_any_chunking(messages: list[bytes], sizes: list[int]) -> None:
    octets, at, dialect = b"".join(messages), 0, opened()
    found: list[bytes] = []
    while at < len(octets):
        size = sizes[at % len(sizes)]
        found += dialect.receive(octets[at : at + size], 1.0)
        at += size
    assert found == [FRAME] * sum(message is not CHANNEL_26 for message in messages)
