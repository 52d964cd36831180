"""TOML with positions: values by the standard library, and beside them the line of every key.

`tomllib` says nothing about where a value stood. The scanner below walks a text that `tomllib` has accepted already, so
it knows only as much grammar as it takes to find keys: it skips what it may assume to be well-formed.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, NamedTuple

from tumpline.node.config.problems import Path, Problems, Step

# A file with more wrong lines than this is no configuration: the rest would be noise.
MAX_SYNTAX_ERRORS = 20

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_ASSIGNMENT = re.compile(r"""\s*[\w\-."' ]+=""")
_BLANK = re.compile(r"[ \t]*")
_FILLER = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")  # between statements, and between the elements of an array
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")

_HINTS = {
    "Invalid value": 'write text in quotes: key = "text"',
    "Expected newline or end of document after a statement": "write one `key = value` a line",
    "Cannot overwrite a value": "remove one of the two keys",
    "Illegal character '\\n'": "close the quotes on the same line",
    "Unterminated string": "close the quotes (\"\"\" or ''')",
    "Unclosed array": "close it with ]",
}


class Document(NamedTuple):
    """A file as read. `complete`: no line had to be left out."""

    data: dict[str, Any]
    lines: dict[Path, int]
    complete: bool


def parse(text: str, problems: Problems) -> Document:
    """Values and positions. Lines that are not TOML become problems and are left out, where the rest can still be read."""
    lines = text.replace("\r\n", "\n").split("\n")
    for _ in range(MAX_SYNTAX_ERRORS):
        joined = "\n".join(lines)
        try:
            data = tomllib.loads(joined)
        except tomllib.TOMLDecodeError as error:
            message, number = _message(error, joined.rstrip().count("\n") + 1)
            problems.add_line(number, message)
            if not _stands_alone(lines[number - 1], message):
                break
            lines[number - 1] = ""
        else:
            return Document(data, positions(joined), complete=not len(problems))
    return Document({}, {}, complete=False)


def _message(error: tomllib.TOMLDecodeError, last_line: int) -> tuple[str, int]:
    place = _PLACE.search(str(error))
    what = str(error)[: place.start()] if place else str(error)
    number = int(place[1]) if place and place[1] else last_line
    hint = next((hint for start, hint in _HINTS.items() if what.startswith(start)), "see https://toml.io/en/v1.0.0")
    return f"this is not TOML: {what[:1].lower()}{what[1:]}; {hint}", min(number, last_line)


def _stands_alone(line: str, message: str) -> bool:
    """Whether an assignment is wrong in itself. If not, the mistake is elsewhere and leaving the line out misleads."""
    if not _ASSIGNMENT.match(line):
        return False
    if "overwrite" in message:
        return True
    try:
        tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        # An array or text that goes on in the next lines would leave those without a beginning.
        return not line.rstrip().endswith(("[", "{", ",", '"""', "'''"))
    return False


def positions(text: str) -> dict[Path, int]:
    """The line (from 1) of every table, key and array element of a valid document."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0  # newlines before here are in _line
        self._table: Path = ()
        self._lengths: dict[Path, int] = {}  # arrays of tables
        self.lines: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        self._skip(_FILLER)
        while self._at < len(self._text):
            if self._text.startswith("[[", self._at):
                self._header(2)
            elif self._text[self._at] == "[":
                self._header(1)
            else:
                self._assignment(self._table)
            self._skip(_FILLER)
        return self.lines

    def _header(self, brackets: int) -> None:
        self._at += brackets
        *parents, last = self._key()
        self._skip(_BLANK)
        self._at += brackets
        path: Path = ()
        for part in parents:
            path = self._into(self._mark((*path, part)))
        path = (*path, last)
        if brackets == 2:
            self._mark(path)
            self._lengths[path] = self._lengths.get(path, 0) + 1
        # The header is where people look for a table, even if a header below it was written first.
        self._table = self._into(path)
        self.lines[self._table] = self._here()

    def _into(self, path: Path) -> Path:
        """TOML: a header below an array of tables belongs to the table that was defined last."""
        return (*path, self._lengths[path] - 1) if path in self._lengths else path

    def _assignment(self, table: Path) -> None:
        path = table
        for part in self._key():
            path = self._mark((*path, part))
        self._skip(_BLANK)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _mark(self, path: Path) -> Path:
        self.lines.setdefault(path, self._here())
        return path

    def _key(self) -> list[Step]:
        parts: list[Step] = []
        while True:
            self._skip(_BLANK)
            if (bare := _BARE.match(self._text, self._at)) is not None:
                self._at = bare.end()
                parts.append(bare[0])
            else:
                begin = self._at
                self._skip(_STRING)
                parts.append(tomllib.loads(f"key = {self._text[begin : self._at]}")["key"])
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _value(self, path: Path) -> None:
        first = self._text[self._at]
        if first in "\"'":
            self._skip(_STRING)
        elif first == "[":
            self._elements(path, "]")
        elif first == "{":
            self._elements(path, "}")
        else:
            self._skip(_SCALAR)

    def _elements(self, path: Path, end: str) -> None:
        self._at += 1
        index = 0
        self._skip(_FILLER)
        while self._text[self._at] != end:
            if end == "]":
                self._value(self._mark((*path, index)))
            else:
                self._assignment(path)
            index += 1
            self._skip(_FILLER)
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if (match := pattern.match(self._text, self._at)) is not None:
            self._at = match.end()

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line
