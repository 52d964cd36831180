"""Two pages promise tests for each defect of older agents: they are there, and run."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (?P<number>[A-Z]\d+) \| (?P<defect>.+?) \| (?P<tests>.+?) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
# How many each part of a page has, so that none is dropped with its row.
KNOWN = {
    "older-defects.md": {"T": 26, "U": 14, "B": 16, "G": 5},  # TCPCL, UDPCL, bundle agent, bundlegen
    # Commands, messages, interface, probes, captures (dump), router, life.
    "overlay-defects.md": {"C": 10, "M": 11, "I": 10, "P": 8, "D": 6, "R": 12, "L": 6},
}


class Row(NamedTuple):
    page: str
    number: str
    tests: list[tuple[str, str]]


def rows_of(page: str) -> list[Row]:
    text = (ROOT / "docs" / page).read_text()
    return [Row(page, found["number"], TEST.findall(found["tests"])) for found in ROW.finditer(text)]


ROWS = {page: rows_of(page) for page in KNOWN}


@cache
def functions_of(path: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in tree.body if isinstance(node, functions)}


def marks_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Of the whole function: what single parameters are marked with is no matter of the others."""
    named = [each.func if isinstance(each, ast.Call) else each for each in function.decorator_list]
    return {each.attr for each in named if isinstance(each, ast.Attribute)}


@pytest.mark.parametrize("page", KNOWN)
def test_no_defect_is_missing(page: str) -> None:
    expected = [f"{part}{number}" for part, most in KNOWN[page].items() for number in range(1, most + 1)]
    assert [row.number for row in ROWS[page]] == expected


@pytest.mark.parametrize(
    "row", [row for rows in ROWS.values() for row in rows], ids=lambda row: f"{row.page}-{row.number}"
)
def test_its_tests_exist_and_run(row: Row) -> None:
    assert row.tests, f"{row.number} names no test"
    for path, name in row.tests:
        assert (ROOT / path).is_file(), f"{row.number}: {path} is not there"
        assert name in functions_of(path), f"{row.number}: {path} has no {name}"
        assert not marks_of(functions_of(path)[name]) & {"skip", "skipif", "xfail", "soak"}, (
            f"{row.number}: {name} does not always run"
        )
