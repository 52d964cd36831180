"""What must hold in a laboratory, and whether it does: `tumpline lab test`.

Every module of this folder registers its kinds (`@kind`): a new one is a class, and no list is edited anywhere.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from tumpline.errors import TumplineError
from tumpline.lab.expect._api import KINDS, Arrivals, Expectation, Measured, Row, Scene, mistakes, threads
from tumpline.lab.model import LabFile
from tumpline.node.config.checker import Checker
from tumpline.node.config.problems import Problems
from tumpline.node.registry import did_you_mean

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_module.name}")

# They wait most of the time; each is a process.
SIDE_BY_SIDE_MOST = 8

__all__ = ["KINDS", "Arrivals", "Row", "Scene", "check", "read"]


def read(lab: LabFile, checker: Checker) -> list[Expectation]:
    """Those of a file; its mistakes go to the checker's problems."""
    found = []
    for index, item in enumerate(lab.expect):
        made = _read_one(item, index, lab, checker)
        if made is not None:
            found.append(made)
    return found


def _read_one(item: dict[str, Any], index: int, lab: LabFile, checker: Checker) -> Expectation | None:
    if len(item) != 1:
        checker.problems.add(("expect", index), f"this has {len(item)} keys; write one: the kind of the expectation")
        return None
    (name, value), path = next(iter(item.items())), ("expect", index)
    cls = KINDS.get(name)
    if cls is None:
        checker.problems.add((*path, name), f"there is no such expectation; {did_you_mean(name, KINDS)}")
        return None
    made = checker.struct(value, cls, (*path, name))
    if not isinstance(made, Expectation):
        return None
    for key, sentence in mistakes(made, lab):
        checker.problems.add((*path, name, key), sentence)
    if lab.engine == "world" and not made.in_world:
        told = ", ".join(name for name, each in KINDS.items() if each.in_world)
        checker.problems.add((*path, name), f"a simulation cannot tell this; it can tell {told}")
    if lab.engine == "world" and getattr(made, "route", None):
        checker.problems.add((*path, name, "route"), "a simulation cannot tell this; remove it")
    return made


def check(scene: Scene) -> Iterator[Row]:
    """Measure all of a laboratory's expectations, in order, as they come."""
    problems = Problems(scene.file.name)
    expectations = read(scene.file, Checker(problems, Path()))
    problems.raise_if_any()
    for together, group in groupby(expectations, lambda each: each.side_by_side):
        with threads(SIDE_BY_SIDE_MOST if together else 1) as pool:
            yield from pool.map(partial(_row, scene), group)


def _row(scene: Scene, expectation: Expectation) -> Row:
    began = time.monotonic()
    try:
        measured = expectation.measure(scene)
    except TumplineError as error:
        measured = Measured(" ".join(str(error).split()), False)
    return Row(expectation.what, expectation.expected, *measured, round(time.monotonic() - began, 3))
