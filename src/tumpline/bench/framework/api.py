"""The seam of benches: what one gives back, and the registry that finds them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tumpline.errors import ConfigError


class Figure(NamedTuple):
    """One figure and the yardstick measured beside it."""

    value: float
    unit: str
    limit: float
    ratio: float  # the larger the better; 1 = as good as the plainest program
    limit_is: str  # what the limit is, for people


def throughput(value: float, unit: str, limit: float, limit_is: str) -> Figure:
    """More is better: ratio = value / limit."""
    return Figure(rounded(value), unit, rounded(limit), rounded(value / limit), limit_is)


def latency(value: float, unit: str, limit: float, limit_is: str) -> Figure:
    """Less is better: ratio = limit / value."""
    return Figure(rounded(value), unit, rounded(limit), rounded(limit / value), limit_is)


def rounded(value: float) -> float:
    """Four significant digits: more would claim what no run can show."""
    return float(f"{value:.4g}")


class Effort(NamedTuple):
    """How much work a bench may do."""

    quick: bool = False  # a rough figure; the whole bench in under 20 s

    @property
    def runs(self) -> int:
        """Alternating runs whose median counts."""
        return 3 if self.quick else 5

    def scaled(self, count: int) -> int:
        """How many units of work a run does, `count` being the full amount."""
        return max(1, count // 20) if self.quick else count


class BenchSpec(NamedTuple):
    """The last line of a bench's module: `SPEC = BenchSpec(...)`."""

    name: str
    summary: str
    figures: tuple[str, ...]  # the keys it gives, in order
    run: Callable[[Effort], Mapping[str, Figure]]
    durable: bool = False  # some of its figures are of a durable store: it runs on a disk only


def find_benches() -> dict[str, BenchSpec]:
    """Every bench of the package, by name."""
    package = importlib.import_module("tumpline.bench")
    modules = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg]
    specs = [importlib.import_module(f"tumpline.bench.{name}").SPEC for name in sorted(modules)]
    return {spec.name: spec for spec in specs}


def run_bench(name: str, effort: Effort, directory: Path | None = None) -> dict[str, Any]:
    """Run one bench, with its files below `directory`. Returns: what `bench NAME --json` prints. Raises: ConfigError if
    there is none of that name, or if it needs a disk and has none."""
    from tumpline.bench.framework.disk import describe_disk, working_in
    from tumpline.bench.framework.machine import describe_machine

    benches = find_benches()
    if name not in benches:
        raise ConfigError(f"no bench is called {name!r}; there are: {', '.join(benches)}")
    with working_in(directory) as place:
        disk = {"disk": describe_disk(place)} if benches[name].durable else {}
        machine = describe_machine()
        figures = {key: figure._asdict() for key, figure in benches[name].run(effort).items()}
    return {"bench": name, "machine": machine, **disk, "figures": figures}
