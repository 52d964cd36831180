"""Numbers and tables as people read them."""

import io

import pytest

from tumpline.ui.cli.common import Common
from tumpline.ui.cli.output import Output, duration, octets, pairs, table


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (19_083_264, "18.2 MiB"), (10 << 30, "10.0 GiB"), (None, "-")],
)
def test_octets(count: int | None, text: str) -> None:
    assert octets(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0413, "41.3 ms"), (12.34, "12.3 s"), (61, "1m01s"), (11520, "3h12m"), (187_200, "2d4h"), (None, "-")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_table_aligns() -> None:
    assert table(("A", "LONG"), [("x", 1), ("yyy", None)]) == ["A    LONG", "x    1", "yyy  -"]
    assert table(("A", "B"), []) == ["A  B"]


def test_pairs() -> None:
    assert pairs({"a": 1, "long": None}) == ["a     1", "long  -"]
    assert pairs({}) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal_and_where_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Output(Common(), Terminal(), io.StringIO())
    assert terminal.styled("up") == "\033[32mup\033[0m"
    assert terminal.styled("hello") == "hello"
    assert Output(Common(), io.StringIO(), io.StringIO()).styled("up") == "up"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.styled("up") == "up"


def test_results_and_diagnostics_do_not_mix() -> None:
    out, err = io.StringIO(), io.StringIO()
    output = Output(Common(), out, err)
    output.result({"a": 1}, "a is 1")
    output.note("by the way")
    output.detail("in depth")
    assert (out.getvalue(), err.getvalue()) == ("a is 1\n", "by the way\n")


def test_quiet_keeps_errors() -> None:
    out, err = io.StringIO(), io.StringIO()
    output = Output(Common(quiet=True, json=True), out, err)
    output.note("by the way")
    output.error("broken")
    output.result({"a": 1}, "a is 1")
    assert (out.getvalue(), err.getvalue()) == ('{"a":1}\n', "broken\n")


def test_verbose_shows_details() -> None:
    err = io.StringIO()
    Output(Common(verbose=1), io.StringIO(), err).detail("in depth")
    assert err.getvalue() == "in depth\n"
