"""What every verb takes: --json, --node, --timeout, -q, -v."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter

_UNIT_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")


def seconds(text: str) -> float:
    """A duration as people write it: `10`, `10s`, `500ms`, `5m`, `2h`, `1d`. Raises: ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or match[2] not in _UNIT_S:
        raise ValueError(f"{text!r} is no duration: write for example 10s, 500ms, 5m, 2h or 1d")
    return float(match[1]) * _UNIT_S[match[2]]


def _to_seconds(_type: Any, tokens: Sequence[Any]) -> float:
    return seconds(tokens[0].value)


Seconds = Annotated[float, Parameter(converter=_to_seconds, n_tokens=1)]
Flag = Annotated[bool, Parameter(negative=())]
# A file, or - for standard input or output.
FileOrDash = Annotated[str, Parameter(allow_leading_hyphen=True)]


@Parameter(name="*", group=Group("Options of every verb", sort_key=9))
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options that every verb has."""

    json: Flag = False
    "Print one JSON object (streams: one a line) instead of text."
    node: str | None = None
    "Which agent: its name, or the path of its control socket (default: the only one that runs)."
    timeout: Seconds | None = None
    "Give up after so long, with exit code 3."
    quiet: Annotated[bool, Parameter(alias="-q", negative=())] = False
    "No diagnostics but errors."
    verbose: Annotated[int, Parameter(alias="-v", count=True)] = 0
    "More diagnostics; -vv shows where an error came from."


DEFAULT = Common()
