"""`python -m fuzz [NAME] [SECONDS] [--seed N] [--guided]`: the table, or the input that was a finding."""

from __future__ import annotations

import argparse
import sys
from hashlib import sha256
from pathlib import Path

from fuzz.guided import fuzz_guided
from fuzz.harness import Figures, FindingError, Target, checked, fuzz
from fuzz.registry import find_targets

DEFAULT_S = 10
FINDINGS = Path(__file__).parent / "findings"


def main() -> None:
    """Exit code 1 after a finding."""
    asked, targets = _arguments(), find_targets()
    if asked.name not in ("all", *targets):
        sys.exit(f"fuzz: no target is called {asked.name!r}; there are: {', '.join(targets)}")
    chosen = list(targets.values()) if asked.name == "all" else [targets[asked.name]]
    if asked.input is not None:
        checked(chosen[0], asked.input.read_bytes())
    elif asked.guided:
        fuzz_guided(chosen[0], asked.seconds)
    else:
        sys.exit(_table(chosen, asked.seconds, asked.seed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev fuzz", description="Decoders and machines under mutated real traffic.")
    parser.add_argument("name", nargs="?", default="all", help="one target; default: all")
    parser.add_argument("seconds", nargs="?", type=int, default=DEFAULT_S, help=f"for each; default: {DEFAULT_S}")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other inputs")
    parser.add_argument("--guided", action="store_true", help="guided by coverage, with atheris: one target")
    parser.add_argument("--input", type=Path, help="run one target once, with the octets of this file")
    asked = parser.parse_args()
    if asked.name == "all" and (asked.guided or asked.input):
        parser.error("name one target")
    return asked


def _table(targets: list[Target], seconds: int, seed: int) -> int:
    """Print a line a target. Returns: the exit code."""
    print(f"{'decoder':18} {'examples':>9} {'accepted':>9} {'seconds':>8} {'peak memory':>12} {'slowest':>10}")
    findings = 0
    for target in targets:
        try:
            print(_line(target, fuzz(target, seconds=seconds, seed=seed)), flush=True)
        except FindingError as error:
            findings += 1
            print(f"{error}\n  kept in {_keep(error)}", flush=True)
    return 1 if findings else 0


def _line(target: Target, figures: Figures) -> str:
    peak, slowest = f"{figures.peak_octets / 1024:.0f} KiB", f"{figures.slowest_ms:.1f} ms"
    counts = f"{figures.examples:9} {figures.accepted:9} {figures.seconds:8.1f}"
    return f"{target.name:18} {counts} {peak:>12} {slowest:>10}"


def _keep(error: FindingError) -> Path:
    FINDINGS.mkdir(exist_ok=True)
    path = FINDINGS / f"{error.target}-{sha256(error.data).hexdigest()[:12]}"
    path.write_bytes(error.data)
    return path


if __name__ == "__main__":
    main()
