"""`tumpline doctor`: what is missing on this machine, and the command that fixes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tumpline.errors import TumplineError
from tumpline.node.doctor import Check, examine, is_ready
from tumpline.ui.cli.agent import find_agent
from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output

# This program is younger: a clock before it is wrong, and bundles from it count as expired everywhere else.
_EARLIEST_YEAR = 2026


def doctor(*, state_dir: Path | None = None, common: Common = DEFAULT) -> int:
    """Look at this machine. Exits 1 if something is missing that every agent needs.

    Parameters
    ----------
    state_dir
        Where bundles would be kept (default: the usual place).
    """
    checks = [*examine(state_dir), _clock(), _agent()]
    ready = is_ready(checks)
    Output(common).result({"ok": ready, "checks": [check._asdict() for check in checks]}, _shown(checks))
    return 0 if ready else 1


def _clock() -> Check:
    now = time.gmtime()
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
    ok = now.tm_year >= _EARLIEST_YEAR
    return Check("clock", ok, shown, "" if ok else "timedatectl set-ntp true")


def _agent() -> Check:
    try:
        seen = f"one answers at {find_agent(None)}"
    except TumplineError as error:
        seen = str(error)
    return Check("agent", True, seen)  # that none runs is no defect of the machine


def _shown(checks: list[Check]) -> Iterator[str]:
    width = max(len(check.name) for check in checks)
    for check in checks:
        state = "ok      " if check.ok else "MISSING " if check.needed else "optional"
        yield f"{state}  {check.name.ljust(width)}  {check.seen}"
        if not check.ok:
            wanted = f" (for {check.what_for})" if check.what_for else ""
            yield f"{'':8}  {'':{width}}  fix: {check.fix}{wanted}"
