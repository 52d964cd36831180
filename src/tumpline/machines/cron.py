"""Cron expressions, in UTC, on DTN time: `minute hour day-of-month month day-of-week`, by arithmetic alone."""

from __future__ import annotations

from typing import NamedTuple

from tumpline.errors import ConfigError

MINUTE_MS = 60_000
_DAY_MINUTES = 1440
# DTN time zero is 2000-01-01 00:00 UTC (RFC 9171 §4.2.6): a Saturday, 10957 days after 1970-01-01.
_EPOCH_WEEKDAY = 6
_DAYS_FROM_1970 = 10_957
# The longest wait of any expression that ever fires: 29 February on a given weekday comes every 28 years, 40 over 2100.
_SEARCH_DAYS = 40 * 366

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class _Field(NamedTuple):
    name: str
    first: int
    last: int
    words: tuple[str, ...] = ()
    word_base: int = 0


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of week", 0, 7, _WEEKDAYS),  # 0 and 7 are Sunday
)


class Cron(NamedTuple):
    """The minutes at which something begins."""

    minutes: tuple[int, ...]  # of the day, sorted
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool  # both kinds of day are restricted: one of them is enough, as cron has it

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Raises ConfigError with what to write instead."""
        parts = _MACROS.get(text.strip().lower(), text).split()
        if len(parts) != len(_FIELDS):
            raise ConfigError(
                f"{text!r} has {len(parts)} fields; write five: minute hour day-of-month month day-of-week"
            )
        minutes, hours, days, months, weekdays = map(_values, _FIELDS, parts)
        of_day = tuple(hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes))
        either = not parts[2].startswith("*") and not parts[4].startswith("*")
        return cls(of_day, days, months, frozenset(day % 7 for day in weekdays), either)

    def next(self, from_ms: int) -> int | None:
        """The first minute (DTN ms) not before `from_ms`; None if there is none."""
        minute = -(-from_ms // MINUTE_MS)
        day, of_day = divmod(minute, _DAY_MINUTES)
        for each in range(day, day + _SEARCH_DAYS):
            if self._is_day(each):
                for candidate in self.minutes:
                    if candidate >= of_day:
                        return (each * _DAY_MINUTES + candidate) * MINUTE_MS
            of_day = 0
        return None

    def _is_day(self, day: int) -> bool:
        month, of_month = _month_and_day(day)
        if month not in self.months:
            return False
        in_month, in_week = of_month in self.days, (day + _EPOCH_WEEKDAY) % 7 in self.weekdays
        return in_month or in_week if self.either_day else in_month and in_week


def _values(field: _Field, text: str) -> frozenset[int]:
    """`*`, `a`, `a-b`, either with `/step`, joined by commas."""
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step_text = item.partition("/")
        low_text, dash, high_text = span.partition("-")
        if span == "*":
            low, high = field.first, field.last
        else:
            low = _number(field, low_text)
            high = _number(field, high_text) if dash else (field.last if slash else low)
        step = int(step_text) if step_text.isdecimal() else (0 if slash else 1)
        if step < 1 or low > high:
            raise ConfigError(f"{item!r} is no {field.name}; write a number, a range a-b, or */step")
        found.update(range(low, high + 1, step))
    return frozenset(found)


def _number(field: _Field, text: str) -> int:
    if text.lower() in field.words:
        return field.words.index(text.lower()) + field.word_base
    if not text.isdecimal() or not field.first <= int(text) <= field.last:
        raise ConfigError(f"{text!r} is no {field.name}; write a number from {field.first} to {field.last}")
    return int(text)


def _month_and_day(day: int) -> tuple[int, int]:
    """Month and day of month of a day counted from 2000-01-01, in the Gregorian calendar.

    Years are counted from 1 March, so that the leap day is the last of its year; 719468 days lie between 0000-03-01 and
    1970-01-01, and 400 years have 146097 days.
    """
    of_era = (day + _DAYS_FROM_1970 + 719_468) % 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return (month + 3 if month < 10 else month - 9), of_year - (153 * month + 2) // 5 + 1
