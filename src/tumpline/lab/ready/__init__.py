"""Laboratories that come with the program, one YAML file each."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def ready_names() -> list[str]:
    """In alphabetical order."""
    return sorted(file.stem for file in _HERE.glob("*.yaml"))


def ready_file(name: str) -> Path | None:
    """The file of one, if there is one of that name."""
    file = _HERE / f"{name}.yaml"
    return file if name in ready_names() else None
