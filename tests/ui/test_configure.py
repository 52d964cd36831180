"""`tumpline config`: mistakes with their lines, the whole as it takes effect, a first file, the schema."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

GOOD = """\
[node]
id = "dtn://ground/"

[[routes]]
to = "dtn://rover/**"
via = "dtn://relay/"
"""
BAD = """\
[node]
id = "dtn://ground/files"
nmae = "x"

[[links]]
kind = "tcpcl5"

[web]
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "ground.toml").write_text(GOOD)
    return tmp_path / "ground.toml"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    (tmp_path / "bad.toml").write_text(BAD)
    return tmp_path / "bad.toml"


def test_check_of_a_good_one(good: Path, tumpline: Any) -> None:
    said = tumpline("config", "check", str(good))
    assert (said.code, said.out) == (0, f"{good}: ok\n")


def test_check_names_every_mistake_with_its_line(bad: Path, good: Path, tumpline: Any) -> None:
    said = tumpline("config", "check", str(bad), str(good))
    assert said.code == 2
    lines = said.out.splitlines()
    for number, word in ((2, "node.id"), (3, "name"), (6, "tcpcl4"), (8, "web")):
        assert any(line.startswith(f"{bad}:{number}: ") and word in line for line in lines), (number, said.out)
    assert lines[-1] == f"{good}: ok"
    value = tumpline("config", "check", str(bad), str(good), "--json").value
    assert [file["ok"] for file in value["files"]] == [False, True]
    assert value["files"][0]["problems"] == lines[:-1]


def test_check_takes_the_one_that_up_would_take(own_directories: Path, tumpline: Any) -> None:
    directory = own_directories / "XDG_CONFIG_HOME" / "tumpline"
    directory.mkdir()
    (directory / "ground.toml").write_text(GOOD)
    assert tumpline("config", "check").code == 0
    assert tumpline("config", "check", "--node", "rover").code == 2


def test_show_fills_in_the_defaults(good: Path, tumpline: Any) -> None:
    said = tumpline("config", "show", str(good))
    shown = tomllib.loads(said.out)
    assert shown["node"]["id"] == "dtn://ground/"
    assert shown["store"]["quota_bytes"] == "10 GiB"
    assert tumpline("config", "show", str(good), "--json").value["routes"][0]["via"] == "dtn://relay/"


def test_init_writes_what_check_accepts(own_directories: Path, tmp_path: Path, tumpline: Any) -> None:
    said = tumpline("config", "init", "--id", "dtn://rover/", "--listen", "127.0.0.1:0")
    path = own_directories / "XDG_CONFIG_HOME" / "tumpline" / "rover.toml"
    assert said.code == 0
    assert str(path) in said.out
    assert tumpline("config", "check", str(path)).code == 0
    again = tumpline("config", "init", str(path))
    assert again.code == 2
    assert "--force" in again.err
    assert tumpline("config", "init", str(path), "--force").code == 0
    assert tumpline("config", "init", "-").out.startswith("#")


def test_init_of_no_node_id(tmp_path: Path, tumpline: Any) -> None:
    said = tumpline("config", "init", str(tmp_path / "x.toml"), "--id", "rover")
    assert said.code in (1, 2)
    assert not (tmp_path / "x.toml").exists()


def test_schema(tumpline: Any) -> None:
    value = json.loads(tumpline("config", "schema").out)
    assert {"node", "links", "routes"} <= value["properties"].keys()
    assert tumpline("config", "schema", "--json").value == value


def test_files_of_the_older_agent_are_checked_and_what_is_taken_otherwise_is_remarked(
    tumpline: Any, tmp_path: Path
) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("tcpcl:\n  init_listen: {address: 127.0.0.1}\nbp:\n  node_id: dtn://server/\n")
    said = tumpline("config", "check", str(file))
    assert (said.code, said.out) == (0, f"{file}: ok\n")
    assert f"{file}:2: tcpcl.init_listen: this must be a list" in said.err
    assert "this must be a list" in tumpline("config", "check", str(file), "--json").value["files"][0]["remarks"][0]
    assert 'kind = "regex_table"' in tumpline("config", "show", str(file)).out
    file.write_text("bp:\n  node_idd: dtn://server/\n")
    said = tumpline("config", "check", str(file))
    assert said.code == 2
    assert f"{file}:2: bp.node_idd: there is no such key; did you mean 'node_id'?" in said.out
