"""Results go to stdout, as text for people or as JSON for programs; diagnostics go to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from tumpline.ui.cli.common import Common

_BOLD, _DIM, _RED, _GREEN, _YELLOW = "1", "2", "31", "32", "33"
_COLOURS = {"up": _GREEN, "open": _GREEN, "ok": _GREEN, "down": _RED, "failed": _RED, "connecting": _YELLOW}
_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class Output:
    """Where one verb writes. Everything it says passes through here."""

    def __init__(self, common: Common, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.json = common.json
        self._quiet = common.quiet
        self._verbose = common.verbose
        self._out = out or sys.stdout
        self._err = err or sys.stderr

    def result(self, value: Any, text: str | Iterable[str] = ()) -> None:
        """The answer of the verb: `value` with --json, else the lines of `text`."""
        if self.json:
            print(to_json(value), file=self._out, flush=True)
            return
        for line in [text] if isinstance(text, str) else text:
            print(line, file=self._out)
        self._out.flush()

    event = result  # one of many: with --json each is one line of NDJSON

    def note(self, text: str) -> None:
        """What the person should know and a program need not."""
        if not self._quiet:
            print(text, file=self._err, flush=True)

    def detail(self, text: str) -> None:
        """Shown with -v."""
        if self._verbose:
            print(text, file=self._err, flush=True)

    def error(self, text: str) -> None:
        """What went wrong; shown even with -q."""
        print(text, file=self._err, flush=True)

    @property
    def is_live(self) -> bool:
        """Whether a person watches stderr: progress bars make sense."""
        return self._err.isatty() and not self._quiet and not self.json

    @property
    def is_screen(self) -> bool:
        """Whether stdout is a terminal whose screen may be redrawn."""
        return self._out.isatty() and not self.json

    def redraw(self) -> None:
        """Begin again at the top of the screen, if it is one."""
        if self.is_screen:
            self._out.write("\033[H\033[2J")

    def styled(self, text: str, word: str = "") -> str:
        """The text in the colour of a state word, where colour is wanted (https://no-color.org)."""
        code = _COLOURS.get(word or text.strip())
        if code is None or not self._out.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            return text
        return f"\033[{code}m{text}\033[0m"


def to_json(value: Any) -> str:
    """One line of JSON."""
    import msgspec

    return msgspec.json.encode(value, enc_hook=str).decode()


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Aligned columns without lines: easy to read, easy to cut. Nothing but the header if there are no rows."""
    lines = [tuple(headers), *(tuple("-" if cell is None else str(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def pairs(value: Mapping[str, Any]) -> list[str]:
    """`name  value`, one a line."""
    width = max((len(name) for name in value), default=0)
    return [f"{name.ljust(width)}  {'-' if shown is None else shown}" for name, shown in value.items()]


def octets(count: float | None) -> str:
    """A number of octets for people: `18.2 MiB`."""
    if count is None:
        return "-"
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_BINARY_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{int(size)} B" if unit == 0 else f"{size:.1f} {_BINARY_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """A time span for people: `41 ms`, `12 s`, `3h12m`, `2d4h`."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.3g} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"
