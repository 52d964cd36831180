"""Network files of the older agent (`container/*.yaml` of dtn-demo-agent): read as they are (docs/lab-older.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tumpline.lab.older.convert import converted
from tumpline.lab.older.shape import OlderFile, is_older, without_unknown
from tumpline.node.config.checker import Checker
from tumpline.node.config.problems import Problems
from tumpline.node.registry import did_you_mean

__all__ = ["OlderFile", "from_older", "is_older", "older_file"]


def older_file(value: Any, problems: Problems, remarks: Problems) -> OlderFile | None:
    """What such a file says; None if there are `problems`. What is passed over goes to `remarks`."""
    made = Checker(problems, Path.cwd(), assign=": ").struct(without_unknown(value, remarks), OlderFile, ())
    return made if isinstance(made, OlderFile) else None


def from_older(value: Any, problems: Problems, apart: bool = False) -> dict[str, Any]:
    """The same laboratory as plain data for `LabFile`, with remarks on what is done otherwise; {} if there are `problems`."""
    remarks = Problems(problems.source, problems.lines)
    older = older_file(value, problems, remarks)
    if older is None:
        return {}
    _check_nets(older, problems)
    return converted(older, problems, remarks, apart)


def _check_nets(older: OlderFile, problems: Problems) -> None:
    for name, net in older.nets.items():
        if not (net.subnet4 or net.subnet6 or net.subnet):
            problems.add(("nets", name), "it has no addresses; write for example subnet4: 10.0.1.0/24")
    for name, node in older.nodes.items():
        for index, each in enumerate(node.nets):
            if each not in older.nets:
                problems.add(
                    ("nodes", name, "nets", index), f"there is no net {each!r}; {did_you_mean(each, older.nets)}"
                )
