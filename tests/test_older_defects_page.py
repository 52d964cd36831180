"""docs/older-defects.md promises a test for each defect of the older demo agent: each is there, and runs."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "older-defects.md").read_text()
ROW = re.compile(r"^\| (?P<number>[A-Z]\d+) \| (?P<defect>.+?) \| (?P<tests>.+?) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
# How many each part of the page has, so that none is dropped with its row: T TCPCL, U UDPCL, B bundle agent, G bundlegen.
KNOWN = {"T": 26, "U": 14, "B": 16, "G": 5}


class Row(NamedTuple):
    number: str
    tests: list[tuple[str, str]]


ROWS = [Row(found["number"], TEST.findall(found["tests"])) for found in ROW.finditer(PAGE)]


@cache
def functions_of(path: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in tree.body if isinstance(node, functions)}


def marks_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Of the whole function: what single parameters are marked with is no matter of the others."""
    named = [each.func if isinstance(each, ast.Call) else each for each in function.decorator_list]
    return {each.attr for each in named if isinstance(each, ast.Attribute)}


def test_no_defect_is_missing() -> None:
    expected = [f"{part}{number}" for part, most in KNOWN.items() for number in range(1, most + 1)]
    assert [row.number for row in ROWS] == expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_its_tests_exist_and_run(row: Row) -> None:
    assert row.tests, f"{row.number} names no test"
    for path, name in row.tests:
        assert (ROOT / path).is_file(), f"{row.number}: {path} is not there"
        assert name in functions_of(path), f"{row.number}: {path} has no {name}"
        assert not marks_of(functions_of(path)[name]) & {"skip", "skipif", "xfail", "soak"}, (
            f"{row.number}: {name} does not always run"
        )
