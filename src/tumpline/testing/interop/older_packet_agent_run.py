"""Runs the older packet agent from its wheel under Python 3: `python older_packet_agent_run.py connect --name agent_1 ...`.

For the interpreter that has the wheel; nothing of ours is there. One module of it was written for Python 2: it is changed as
it is loaded. What is replaced is named here and nowhere kept.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Final

WRITTEN_FOR_PYTHON_2: Final = "agent.utils.opentun"
SUBSTITUTIONS: Final = (
    (r"\bord\(b\)", "b"),  # octets are numbers already
    (r'"tun%d"', 'b"tun%d"'),
    (r'\.strip\("\\x00"\)', '.strip(b"\\\\0").decode()'),
    (r"''\.join\(\[chr\(b\) for b in data\]\)", "bytes(data)"),
)


class Loader(SourceFileLoader):
    """Of that module."""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname) or ""
        for pattern, replacement in SUBSTITUTIONS:
            source, count = re.subn(pattern, replacement, source)
            assert count, f"{fullname} has no {pattern}: is it another version?"
        return compile(source, self.path, "exec")


class Finder:
    """Finds that module, before others do."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if name != WRITTEN_FOR_PYTHON_2:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = Loader(name, spec.origin)
        return spec


def main() -> None:
    sys.meta_path.insert(0, Finder)
    sys.argv[0] = "ioppytest-agent"
    importlib.import_module("agent.agent_cli").main()


if __name__ == "__main__":
    main()
