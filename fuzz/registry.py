"""All targets, found by walking their folder."""

from __future__ import annotations

import importlib
import pkgutil

from fuzz import targets
from fuzz.harness import Target


def find_targets() -> dict[str, Target]:
    """By name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(targets.__path__))
    found = [importlib.import_module(f"fuzz.targets.{name}").TARGET for name in modules]
    return {target.name: target for target in found}
