"""What is kept of a laboratory that is up, so that the next command finds it: one directory, gone when it is down."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from tumpline.errors import NotReachableError, StateError
from tumpline.lab.holder import Holder
from tumpline.lab.model import LabFile
from tumpline.lab.read import loads
from tumpline.node.paths import runtime_dir

_FILE = "lab.json"
_SOURCE = "lab.yaml"


def labs_dir() -> Path:
    """Where laboratories are kept: for their user alone."""
    return runtime_dir() / "labs"


def names_up() -> list[str]:
    """Laboratories that have a directory, up or crashed."""
    directory = labs_dir()
    return sorted(entry.name for entry in directory.iterdir() if (entry / _FILE).exists()) if directory.exists() else []


class LabDirectory:
    """The directory of one laboratory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = labs_dir() / name
        self.logs = self.path / "logs"
        self.keys = self.path / "keys"
        self.captures = self.path / "captures"

    def create(self, source: str) -> None:
        """Raises: StateError: it is up already, or the directory cannot be made."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise StateError(
                f"laboratory {self.name} is up already; end it with `tumpline lab down {self.name}`"
            ) from error
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror}; set XDG_RUNTIME_DIR to a directory of yours") from error
        for directory in (self.logs, self.keys, self.captures):
            directory.mkdir(mode=0o700)
        (self.path / _SOURCE).write_text(source)

    def node(self, node: str) -> Path:
        """The directory of one node: its hosts file, its agent's configuration, keys and state."""
        path = self.path / "nodes" / node
        path.mkdir(parents=True, exist_ok=True)
        return path

    def save(self, holder: Holder, **more: Any) -> None:
        """Whole or not at all."""
        value = {"pid": holder.pid, "started": holder.started, "nodes": holder.nodes, **more}
        fresh = self.path / f"{_FILE}.new"
        fresh.write_text(json.dumps(value))
        os.replace(fresh, self.path / _FILE)

    def load(self) -> tuple[Holder, LabFile, dict[str, Any]]:
        """Of a laboratory that is up, or was when it crashed. Raises: NotReachableError."""
        try:
            value: dict[str, Any] = json.loads((self.path / _FILE).read_text())
            file = loads((self.path / _SOURCE).read_text(), str(self.path / _SOURCE), self.name)
            lab = msgspec.structs.replace(
                file, name=self.name
            )  # `lab up --name` called it otherwise than its file does
        except (OSError, ValueError) as error:
            others = f"; up: {', '.join(names_up())}" if names_up() else ""
            raise NotReachableError(
                f"no laboratory {self.name!r} is up{others}; start it with `tumpline lab up FILE`"
            ) from error
        return Holder(value["pid"], value["started"], value["nodes"]), lab, value

    def remove(self) -> None:
        """Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
