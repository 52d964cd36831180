"""Positions of TOML keys, against the standard library's reading of the same text."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import ConfigError
from tumpline.node.config.problems import Path, Problems
from tumpline.node.config.toml import parse, positions

# Each value is written with the number of its line inside, so that the parsed data says where it stood.
SAMPLE = """\
# comment = 1 [not.a.table]
top = 2
"quoted key" . inner = 3
dotted.a.b = 4 # ] } comment
'literal.key' = 5

[ table ] # comment
x = 8
text = "[x] # = \\" 9"
multi = '''
[no]
y = "
'''
z = 14
basic = \"\"\"a \\\"\"\" b
[[no]]\"\"\"
w = 17
list = [
  18, 19, # 1
  [ 20, "]" ],
  { p = 21, q.r = 21 }, 21,
]
inline = { a = 23, "b c" = [ 23, { d = 23 } ], e = "}" }

[[rows]]
v = 26
[rows.sub]
v = 28
[[rows.deep]]
v = 30
[[rows.deep]]
v = 32

[[ rows ]]
v = 35
[[rows.deep]]
v = 37
[table.below."x.y"]
v = 39
"""
MULTI_LINE: dict[Path, int] = {("table", "list", 0): 19, ("table", "list", 1): 19}


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def test_every_number_says_its_line() -> None:
    lines = positions(SAMPLE)
    checked = 0
    for path, value in leaves(tomllib.loads(SAMPLE)):
        if isinstance(value, int):
            assert lines[path] == MULTI_LINE.get(path, value), path
            checked += 1
    assert checked == 23


def test_tables_stand_at_their_headers() -> None:
    lines = positions(SAMPLE)
    assert lines["table",] == 7
    assert (lines["rows", 0], lines["rows", 1]) == (25, 34)
    assert (lines["rows", 0, "deep", 1], lines["rows", 1, "deep", 0]) == (31, 36)
    assert lines["table", "below", "x.y"] == 38
    assert lines["table", "multi"] == 10
    assert lines["table", "basic"] == 15


def test_a_table_whose_child_comes_first_stands_at_its_own_header() -> None:
    lines = positions("[a.b]\nx = 1\n[a]\ny = 2\n")
    assert (lines["a",], lines["a", "b"], lines["a", "b", "x"]) == (3, 1, 2)


def test_positions_survive_windows_line_ends() -> None:
    document = parse("[a]\r\nx = 1\r\ny = '''\r\n'''\r\nz = 2\r\n", Problems("f"))
    assert document.lines["a", "z"] == 5


# ---- property: any document that is made of these pieces ------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b-2", '"x y"', "'l.m'", '"q\\"["', "e", "f_g", '"]="'])
BLANKS = st.sampled_from(["", " ", "\t", "  "])
COMMENTS = st.sampled_from(["", " # note", "# [x] = 'y'", '\t#"""'])
SCALARS = st.sampled_from(
    ["1", "-2.5e3", "true", "2030-01-31 12:00:00Z", '"text # [ ] = , }"', "'lit \\'", '""', "''", "inf", "0x1F"]
)
LONG = st.sampled_from(['"""\n[a]\nb = \\" 1\n"""', "'''x\n# y\n'z' ''\n'''", '"""q"""""', "''''''", '"""a\\\n  b"""'])
GAPS = st.sampled_from(["", "\n", " # c ]\n", "\n\n "])


@st.composite
def inline_tables(draw: st.DrawFn, depth: int) -> str:
    keys = draw(st.lists(KEYS, unique=True, max_size=3))
    return "{ " + ", ".join(f"{key} = {draw(values(depth - 1, one_line=True))}" for key in keys) + " }"


@st.composite
def arrays(draw: st.DrawFn, depth: int, one_line: bool) -> str:
    items = draw(st.lists(values(depth - 1, one_line=one_line), max_size=3))
    gaps = st.just("") if one_line else GAPS
    return "[" + draw(gaps) + ",".join(draw(gaps) + item + draw(gaps) for item in items) + draw(gaps) + "]"


def values(depth: int, one_line: bool = False) -> st.SearchStrategy[str]:
    plain = SCALARS if one_line else SCALARS | LONG
    return plain if depth <= 0 else plain | arrays(depth, one_line) | inline_tables(depth)


@st.composite
def documents(draw: st.DrawFn) -> str:
    text = ""
    for header in draw(st.lists(st.sampled_from(["", "[{}]", "[[{}]]", "[t . {}]", "[[t.{}]]"]), max_size=5)):
        text += header.format(draw(KEYS)) + (draw(COMMENTS) if header else "") + "\n"
        for key in draw(st.lists(KEYS, unique=True, max_size=3)):
            dotted = draw(st.sampled_from(["", ".k", " . 'k 2'"]))
            line = f"{draw(BLANKS)}{key}{dotted}{draw(BLANKS)}={draw(BLANKS)}{draw(values(2))}"
            text += f"{line}{draw(COMMENTS)}\n{draw(GAPS)}"
            text += "" if text.endswith("\n") else "\n"
    return text


@given(documents())
def test_every_key_has_a_line_that_has_it(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a key or table twice
    found, rows = positions(text), text.split("\n")
    for path, _ in leaves(data):
        for end in range(1, len(path) + 1):
            line, step = found[path[:end]], path[end - 1]
            assert 1 <= line <= len(rows)
            if isinstance(step, str):
                assert step.replace('"', '\\"') in rows[line - 1], (path[:end], line)
    for path in found:
        value: Any = data
        for step in path:
            value = value[step]


@given(documents())
def test_lines_put_before_move_every_position(text: str) -> None:
    """Shows that lines are counted, not guessed: with n lines before, every position is n further on."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert positions("# x\n\n\n" + text) == {path: line + 3 for path, line in positions(text).items()}


# ---- mistakes of syntax ---------------------------------------------------------------------------------------------------


def mistakes(text: str) -> list[str]:
    problems = Problems("f.toml")
    parse(text, problems)
    with pytest.raises(ConfigError) as raised:
        problems.raise_if_any()
    return raised.value.problems


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[node]\nid = dtn\n", "f.toml:2: this is not TOML: invalid value; write text in quotes"),
        ("a = 1\na = 2\n", "f.toml:2: this is not TOML: cannot overwrite a value; remove one of the two keys"),
        (
            "a = 1 b = 2\n",
            "f.toml:1: this is not TOML: expected newline or end of document after a statement; write one",
        ),
        ("[x\na=1\n", "f.toml:1: this is not TOML: expected ']' at the end of a table declaration"),
        ('a = "x\nb = 1\n', "f.toml:1: this is not TOML: illegal character '\\n'; close the quotes"),
        ('a = """x\n\n', "f.toml:1: this is not TOML: unterminated string; close the quotes"),
        ("[a]\n[a]\n", "f.toml:2: this is not TOML: cannot declare ('a',) twice"),
    ],
)
def test_a_mistake_of_syntax(text: str, start: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith(start)


def test_several_wrong_lines_are_told_together() -> None:
    found = mistakes("a = x\nb = 1\nc = 01\n[t]\nd = 'x\n")
    assert [line.split(": ")[0] for line in found] == ["f.toml:1", "f.toml:3", "f.toml:5"]


def test_what_follows_from_an_open_bracket_is_not_told() -> None:
    assert len(mistakes("a = [\nb = 1\nc = 2\n")) == 1


def test_a_file_that_is_no_configuration_ends_in_a_bounded_list() -> None:
    assert len(mistakes("".join(f"k{n} = nonsense\n" for n in range(1000)))) == 20


def test_the_rest_is_read_without_the_wrong_lines() -> None:
    problems = Problems("f")
    document = parse("a = x\nb = 1\n", problems)
    assert (document.data, document.complete) == ({"b": 1}, False)
    assert document.lines["b",] == 2
