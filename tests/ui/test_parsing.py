"""Verbs, options, environment, help: what happens before anything is done."""

import dataclasses
import inspect
import re
import resource
import subprocess
import sys
from typing import Any

import pytest

from tumpline.ui.cli import aliases
from tumpline.ui.cli.app import TREE, Family, Verb, build
from tumpline.ui.cli.common import Common, seconds

HEAVY = ("aiohttp", "asyncio", "cryptography", "sqlite3", "ssl", "rich.progress")


def _verbs() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for entry in TREE:
        found += [(entry.name,)] if isinstance(entry, Verb) else [(entry.name, verb.name) for verb in entry.verbs]
    return found


@pytest.mark.parametrize("verb", _verbs(), ids=" ".join)
def test_every_verb_explains_itself_and_has_the_common_options(verb: tuple[str, ...], tumpline: Any) -> None:
    said = tumpline(*verb, "--help")
    assert said.code == 0
    for option in ("--json", "--node", "--timeout", "--quiet", "--verbose"):
        assert option in said.out
    assert "TUMPLINE_NODE" in said.out


@pytest.mark.parametrize("verb", _verbs(), ids=" ".join)
def test_every_parameter_is_described(verb: tuple[str, ...]) -> None:
    app = build()
    for word in verb:
        app = app[word]
    function = app.default_command
    assert function is not None
    text = inspect.getdoc(function) or ""
    for name, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(parameter.default):
            assert _undescribed(type(parameter.default)) == [], f"{' '.join(verb)}: {name}"
        else:
            assert f"\n{name}\n" in text, f"{' '.join(verb)}: {name}"


def _undescribed(group: type[Any]) -> list[str]:
    """Options of a group without a sentence below them."""
    source = inspect.getsource(group)
    names = [field.name for field in dataclasses.fields(group)]
    return [name for name in names if not re.search(rf'^    {name}: (?:(?!^    \w).)*?^    "', source, re.M | re.S)]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["stats"], '"status"'),
        (["pign", "ipn:1.0"], '"ping"'),
        (["links", "lst"], '"ls"'),
        (["bundels", "ls"], '"bundles"'),
        (["ping", "ipn:1.0", "--cont", "3"], "--count"),
        (["status", "--jsn"], "--json"),
    ],
)
def test_a_slip_of_the_finger_is_told_what_was_meant(typed: list[str], meant: str, tumpline: Any) -> None:
    said = tumpline(*typed)
    assert said.code == 2
    assert said.out == ""
    assert "Did you mean" in said.err
    assert meant in said.err


def test_a_word_like_no_verb_is_told_all_of_them(tumpline: Any) -> None:
    said = tumpline("xyzzy")
    assert said.code == 2
    assert "status" in said.err
    assert "Did you mean" not in said.err


def test_a_missing_argument_is_a_usage_error(tumpline: Any) -> None:
    said = tumpline("ping")
    assert said.code == 2
    assert "tumpline ping --help" in said.err


def test_nothing_shows_the_help(tumpline: Any) -> None:
    said = tumpline()
    assert said.code == 0
    assert "Usage: tumpline COMMAND" in said.out


def test_options_come_from_the_environment(agent: Any, tumpline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMPLINE_JSON", "1")
    monkeypatch.setenv("TUMPLINE_NODE", str(agent.socket))
    monkeypatch.setenv("TUMPLINE_COUNT", "9")
    agent.answers["POST /v1/ping"] = []
    tumpline("ping", "dtn://rover/echo", "--interval", "250ms")
    asked = agent.asked[0].value
    assert (asked["count"], asked["interval_s"]) == (9, 0.25)
    assert tumpline("status").value["name"] == "ground"


def test_what_is_typed_outweighs_the_environment(agent: Any, tumpline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMPLINE_NODE", "/nowhere.sock")
    assert tumpline("status").code == 4
    assert tumpline("status", "--node", "ground").code == 0


def test_common_options_may_stand_before_the_verb(agent: Any, tumpline: Any) -> None:
    assert tumpline("--json", "--node", "ground", "-q", "status").value["node_id"] == "dtn://ground/"
    assert tumpline("--node=ground", "status").code == 0


@pytest.mark.parametrize(
    ("text", "value"), [("10", 10), ("1.5s", 1.5), ("500ms", 0.5), ("5m", 300), ("2h", 7200), ("1 d", 86400)]
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "fast", "-1", "10 parsecs", "1e3"])
def test_what_is_no_duration_is_a_usage_error(text: str, tumpline: Any) -> None:
    assert tumpline("status", f"--timeout={text}").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_verbs(shell: str, tumpline: Any) -> None:
    script = tumpline("completion", shell).out
    assert all(verb[-1] in script for verb in _verbs())
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("bping", "ping"),
        ("bptrace", "trace"),
        ("bpecho", "echo"),
        ("bpsource", "source"),
        ("bpsink", "sink"),
        ("bpsendfile", "send"),
        ("bprecvfile", "recv"),
    ],
)
def test_other_names(name: str, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        getattr(aliases, name)()
    assert ended.value.code == 0
    assert f"Usage: tumpline {verb}" in capsys.readouterr().out


def _imported_by(*arguments: str) -> set[str]:
    run = f"from tumpline.ui.cli.app import run; run({list(arguments)!r})"
    code = f"import sys; {run}; print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["bundles", "decode", "00"], ["ping", "--cuont", "1"]]
)
def test_light_verbs_import_nothing_heavy(arguments: list[str]) -> None:
    imported = _imported_by(*arguments)
    assert "tumpline.ui.cli.app" in imported
    assert not imported & set(HEAVY)


def test_help_costs_little() -> None:
    """In processor time, which does not depend on who else uses the machine."""
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "tumpline", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # 0.15 s where it was written; aiohttp alone would add 0.3 s.
    assert min(costs) < 0.4


def test_families_and_verbs_are_told_apart() -> None:
    assert {type(entry) for entry in TREE} == {Verb, Family}
    assert Common().node is None
