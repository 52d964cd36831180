"""Cron expressions in UTC on DTN time."""

from datetime import UTC, datetime, timedelta

import pytest

from tumpline.errors import ConfigError
from tumpline.machines.cron import Cron

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def dtn(text: str) -> int:
    return int((datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH).total_seconds() * 1000)


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("* * * * *", "2026-11-21T08:18:36", "2026-11-21T08:19:00"),
        ("* * * * *", "2026-11-21T08:18:00", "2026-11-21T08:18:00"),
        ("*/15 * * * *", "2026-11-21T08:46:00", "2026-11-21T09:00:00"),
        ("30 6 * * *", "2026-11-21T08:00:00", "2026-11-22T06:30:00"),
        ("0 0 1 * *", "2026-12-02T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 31 * *", "2026-04-01T00:00:00", "2026-05-31T00:00:00"),
        ("0 12 * * mon", "2026-11-21T00:00:00", "2026-11-23T12:00:00"),
        ("0 12 * * 7", "2026-11-21T00:00:00", "2026-11-22T12:00:00"),
        ("0 0 13 * fri", "2026-11-21T00:00:00", "2026-11-27T00:00:00"),  # both days restricted: either is enough
        ("5,7-9 3 * jan-mar *", "2026-11-21T00:00:00", "2027-01-01T03:05:00"),
        ("10-50/20 * * * *", "2026-11-21T08:31:00", "2026-11-21T08:50:00"),
        ("@hourly", "2026-11-21T08:00:01", "2026-11-21T09:00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),  # 2100 has no leap day
    ],
)
def test_next(cron: str, after: str, expected: str) -> None:
    assert Cron.parse(cron).next(dtn(after)) == dtn(expected)


def test_never() -> None:
    assert Cron.parse("0 0 31 2 *").next(0) is None


def test_every_day_of_a_calendar_is_found() -> None:
    """Our calendar against another one: daily firings over 130 years, each on the right date and weekday."""
    for weekday, name in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun")):
        cron = Cron.parse(f"0 0 * * {name}")
        for year in range(2000, 2130, 7):
            fires = cron.next(dtn(f"{year}-02-25T00:00:00"))
            assert fires is not None
            assert (EPOCH + timedelta(milliseconds=fires)).weekday() == weekday
    for year in range(2000, 2130):
        for month in range(1, 13):
            fires = Cron.parse(f"0 0 1 {month} *").next(dtn(f"{year}-01-01T00:00:00"))
            assert fires == dtn(f"{year}-{month:02}-01T00:00:00")


@pytest.mark.parametrize("text", ["* * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "x * * * *", ""])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write"):
        Cron.parse(text)
