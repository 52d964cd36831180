"""`tumpline bench`: figures beside the plainest program's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tumpline.bench.framework.api import Effort, find_benches, run_bench
from tumpline.errors import ConfigError
from tumpline.ui.cli.common import DEFAULT, Common, Flag
from tumpline.ui.cli.output import Output, table


def bench(
    name: str | None = None,
    /,
    *,
    quick: Flag = False,
    directory: Path | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    common: Common = DEFAULT,
) -> int:
    """Measure, in alternating runs, what tumpline and the plainest program reach.

    Parameters
    ----------
    name
        Which bench; --list names them.
    quick
        A rough figure in under 20 s.
    directory
        Where benches keep their files; those of durable stores need a disk (default: the system's temporary directory).
    list_
        Name the benches and their figures.
    """
    output = Output(common)
    if list_:
        return _list(output)
    if name is None:
        raise ConfigError(f"which bench? There are: {', '.join(find_benches())}")
    report = run_bench(name, Effort(quick), directory)
    output.result(report, _shown(report))
    return 0


def _list(output: Output) -> int:
    specs = find_benches().values()
    value = [{"bench": spec.name, "summary": spec.summary, "figures": spec.figures} for spec in specs]
    rows = [(spec.name, spec.summary, " ".join(spec.figures)) for spec in specs]
    output.result({"benches": value}, table(("BENCH", "WHAT", "FIGURES"), rows))
    return 0


def _shown(report: dict[str, Any]) -> list[str]:
    machine, figures = report["machine"], report["figures"]
    rows = [
        (
            key,
            f"{figure['value']:g}",
            figure["unit"],
            f"{figure['limit']:g}",
            f"{figure['ratio']:g}",
            figure["limit_is"],
        )
        for key, figure in figures.items()
    ]
    where = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, noise {machine['noise']:.0%}"
    if disk := report.get("disk"):
        where += (
            f"\n{disk['directory']} on {disk['file_system']}, fdatasync {disk['fdatasync_median_ms']:g} ms"
            f" (median of {disk['fdatasyncs']})"
        )
    return [where, *table(("FIGURE", "VALUE", "UNIT", "LIMIT", "RATIO", "LIMIT IS"), rows)]
