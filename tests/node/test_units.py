"""Quantities as people write them."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import ConfigError
from tumpline.node import units


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (units.parse_size, "4096", 4096),
        (units.parse_size, "10 GiB", 10 << 30),
        (units.parse_size, "500 MB", 500_000_000),
        (units.parse_size, "1.5KiB", 1536),
        (units.parse_size, " 7 bytes ", 7),
        (units.parse_size, "9007199254740993", 9_007_199_254_740_993),  # 2^53 + 1: no float has it
        (units.parse_rate, "128 kbit/s", 128_000),
        (units.parse_rate, "1 Gbit/s", 10**9),
        (units.parse_rate, "9600", 9600),
        (units.parse_rate, "2 Mbps", 2_000_000),
        (units.parse_duration_ms, "10m", 600_000),
        (units.parse_duration_ms, "1h30m", 5_400_000),
        (units.parse_duration_ms, "500ms", 500),
        (units.parse_duration_ms, "1.5s", 1500),
        (units.parse_duration_ms, "2 d 1 h", 176_400_000),
        (units.parse_time_ms, "2000-01-01T00:00:00Z", 0),
        (units.parse_time_ms, "2030-01-31T12:00:00+02:00", 949_399_200_000),
    ],
)
def test_read(read: Callable[[str], int], text: str, value: int) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "sentence"),
    [
        (units.parse_size, "10 GiX", "'10 GiX' is no size; write"),
        (units.parse_size, "", "is no size"),
        (units.parse_size, "-1", "is no size"),
        (units.parse_size, "9223372036854775808", "too large"),
        (units.parse_size, "9" * 400 + " GiB", "too large"),
        (units.parse_rate, "128 kbaud", "is no rate; write for example"),
        (units.parse_duration_ms, "10", "is no duration; write for example"),
        (units.parse_duration_ms, "10m!", "is no duration"),
        (units.parse_duration_ms, "", "is no duration"),
        (units.parse_duration_ms, "5 fortnights", "is no duration"),
        (units.parse_duration_ms, "9" * 30 + "d", "is too long"),
        (units.parse_time_ms, "tomorrow", "is no time; write it as RFC 3339"),
        (units.parse_time_ms, "2030-01-31", "is no time"),
        (units.parse_time_ms, "2030-01-31T12:00:00", "has no time zone; write 2030-01-31T12:00:00Z"),
        (units.parse_time_ms, "1999-12-31T23:59:59Z", "before 2000"),
    ],
)
def test_refused(read: Callable[[str], int], text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read(text)


def test_a_duration_too_long_for_a_float() -> None:
    with pytest.raises(ConfigError, match="is too long"):
        units.parse_duration_ms("9" * 400 + "d")


def test_size_too_large_for_a_float() -> None:
    with pytest.raises(ConfigError, match="too large"):
        units.parse_size("9" * 400 + ".5 GiB")


@given(st.integers(0, units.LARGEST))
def test_sizes_round_trip(octets: int) -> None:
    assert units.parse_size(units.format_size(octets)) == octets


@given(st.integers(0, units.LARGEST))
def test_rates_round_trip(rate: int) -> None:
    assert units.parse_rate(units.format_rate(rate)) == rate


@given(st.integers(0, 1 << 50))
def test_durations_round_trip(duration: int) -> None:
    assert units.parse_duration_ms(units.format_duration(duration)) == duration


@given(st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)))
def test_times_round_trip(moment: datetime) -> None:
    ms = units.dtn_ms(moment)
    assert abs(units.parse_time_ms(units.format_time(ms)) - ms) <= 1
