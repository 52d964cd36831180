"""`tumpline lab test`: is all as the laboratory's file expects?"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tumpline.ui.cli.common import DEFAULT, Common, Flag
from tumpline.ui.cli.output import Output, duration, table


def run_trials(*targets: str, keep: Flag = False, name: str | None = None, common: Common = DEFAULT) -> int:
    """Start a laboratory, check what its file expects, end it. Exits 1 if something is not as expected.

    Parameters
    ----------
    targets
        YAML files, or names of ready laboratories (default: all ready ones).
    keep
        Leave it up, to look around.
    name
        Call it so, and not as its file says.
    """
    from tumpline.lab.ready import ready_names

    output = Output(common)
    chosen = targets or tuple(ready_names())
    with _terminated_as_interrupted():
        results = [_tested(target, name, keep, output) for target in chosen]
    ok = all(result["ok"] for result in results)
    output.result({"ok": ok, "laboratories": results}, [line for result in results for line in _lines(result, output)])
    return 0 if ok else 1


def _tested(target: str, name: str | None, keep: bool, output: Output) -> dict[str, Any]:
    from tumpline.lab.trial import trial

    began = time.monotonic()
    rows = []
    with trial(target, name=name, keep=keep) as (lab_name, found):
        for row in found:
            rows.append(row)
            output.detail(f"{lab_name}: {row.what}: {row.measured}{'' if row.ok else f' (expected: {row.expected})'}")
    took_s = round(time.monotonic() - began, 3)
    return {
        "name": lab_name,
        "ok": all(row.ok for row in rows),
        "seconds": took_s,
        "rows": [row._asdict() for row in rows],
    }


def _lines(result: dict[str, Any], output: Output) -> Iterator[str]:
    rows = result["rows"]
    cells = [
        (row["what"], row["expected"], row["measured"], duration(row["seconds"]), "ok" if row["ok"] else "failed")
        for row in rows
    ]
    shown = table(("CHECK", "EXPECTED", "MEASURED", "TOOK", ""), cells)
    good = sum(row["ok"] for row in rows)
    yield f"{result['name']}: {good} of {len(rows)} as expected, {duration(result['seconds'])}"
    yield shown[0]
    yield from (output.styled(line, cell[-1]) for line, cell in zip(shown[1:], cells, strict=True))
    yield ""


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Whoever ends this command by SIGTERM, as `timeout` does, leaves no laboratory behind either."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
