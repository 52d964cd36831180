"""Regular expressions whose cost is bounded: matched against texts that strangers choose, they must not go back for ever.

Python's engine tries all ways to divide a text among repetitions. One within another, or many in a row, take a time that
grows with a power of the text's length, or doubles with each character.
"""

from __future__ import annotations

import re
import warnings
from typing import Final, NamedTuple

from tumpline.errors import ConfigError

# Of a text of MAX_TEXT characters, three repetitions in a row have 255^3 / 6 = 3 million divisions: tens of milliseconds.
MAX_TEXT: Final = 255
MAX_REPETITIONS: Final = 3
MAX_OPTIONS: Final = 6  # each doubles the ways
_MANY: Final = 10  # a repetition that is bounded higher than this is as good as unbounded

_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_QUANTIFIER = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
_GROUP_START = re.compile(r"\(\?(?:[aiLmsux-]*:|P<\w+>|<?[=!]|P=\w+|#[^)]*|[aiLmsux-]+(?=\)))?")


class _Cost(NamedTuple):
    """What a part may cost: repetitions that follow each other, and choices."""

    repetitions: int = 0
    options: int = 0

    def then(self, other: _Cost) -> _Cost:
        return _Cost(self.repetitions + other.repetitions, self.options + other.options)

    def either(self, other: _Cost) -> _Cost:
        return _Cost(max(self.repetitions, other.repetitions), max(self.options, other.options))


def compile_bounded(text: str) -> re.Pattern[str]:
    """Raises: ConfigError: no regular expression, or one that could take too long."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # "[[" may come to mean something else
            compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise ConfigError(f"{text!r} is no regular expression ({error}); write for example dtn://node/.*") from error
    cost = _Scan(text).alternatives()
    if cost.repetitions > MAX_REPETITIONS or cost.options > MAX_OPTIONS:
        raise ConfigError(
            f"{text!r} could take very long to match what strangers send; "
            f"write {MAX_REPETITIONS} repetitions (*, +) and {MAX_OPTIONS} choices (?) at most, several entries if need be"
        )
    return compiled


class _Scan:
    """Reads a pattern that `re` has accepted."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def alternatives(self) -> _Cost:
        """Up to the end of the group, or of the pattern: what the most expensive alternative costs."""
        worst, cost = _Cost(), _Cost()
        while self._at < len(self._text) and self._text[self._at] != ")":
            if self._text[self._at] == "|":
                self._at += 1
                worst, cost = worst.either(cost), _Cost(options=1)
            else:
                cost = cost.then(self._repeated(self._part()))
        return worst.either(cost)

    def _part(self) -> _Cost:
        start = _GROUP_START.match(self._text, self._at) if self._text[self._at] == "(" else None
        if self._text[self._at] != "(":
            atom = _ATOM.match(self._text, self._at)
            assert atom is not None
            self._at = atom.end()
            return _Cost()
        self._at = start.end() if start is not None else self._at + 1
        cost = self.alternatives()
        self._at += 1  # the closing parenthesis
        return cost

    def _repeated(self, cost: _Cost) -> _Cost:
        while (quantifier := _QUANTIFIER.match(self._text, self._at)) is not None:
            if quantifier[0] == "{}":
                break
            self._at = quantifier.end()
            cost = _times(cost, quantifier)
            if self._text[self._at : self._at + 1] in ("?", "+"):  # reluctant, possessive
                self._at += 1
        return cost


def _times(cost: _Cost, quantifier: re.Match[str]) -> _Cost:
    if quantifier[0] == "?":
        return _Cost(cost.repetitions, cost.options + 1)
    least, comma, most = quantifier.groups()
    fixed = least is not None and not comma
    if cost != _Cost():  # a repetition of what may divide in several ways itself
        return _Cost(repetitions=MAX_REPETITIONS + 1)
    if fixed:
        return cost
    bound = int(most) - int(least or 0) if most else _MANY
    return _Cost(repetitions=1) if bound >= _MANY else _Cost(options=max(1, bound))
