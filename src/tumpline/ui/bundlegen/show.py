"""What people and programs see of a run: a bar while it lasts, one line (or JSON) of what came, the first faults by name."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from tumpline.ui.bundlegen.arguments import Asked
from tumpline.ui.bundlegen.exchange import Exchange
from tumpline.ui.bundlegen.ledger import Ledger

if TYPE_CHECKING:
    import rich.progress

_REDRAW_S: Final = 0.1
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


class Bar:
    """On a terminal how many have come, and how fast; nothing elsewhere."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._bar: rich.progress.Progress | None = None
        self._next = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._asked.json:
            self._bar = _bar()
            self._task = self._bar.add_task(f"{self._asked.cl} {self._asked.kind}", total=self._asked.gencount)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, ledger: Ledger) -> None:
        """Called more often than anybody could look."""
        now = time.monotonic()
        if self._bar is not None and now >= self._next:
            self._next = now + _REDRAW_S
            self._bar.update(self._task, completed=ledger.came)


def _bar() -> rich.progress.Progress:
    import rich.console
    import rich.progress as rich_progress

    class Rate(rich_progress.ProgressColumn):
        """Bundles a second."""

        def render(self, task: rich_progress.Task) -> str:
            return f"{task.speed:.0f}/s" if task.speed else ""

    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        Rate(),
        rich_progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
        transient=True,
    )


def report(asked: Asked, exchange: Exchange) -> None:
    """The result on standard output; on standard error what was wrong, the first few of each kind."""
    if asked.json:
        print(msgspec.json.encode(_figures(asked, exchange)).decode())
        return
    ledger, seconds = exchange.ledger, exchange.seconds
    print(
        f"{asked.kind}: {ledger.equal} of {asked.gencount} bundles came equal over {asked.cl} "
        f"(security: {exchange.security}); {_octets(ledger.sent_octets)} in {seconds:.2f} s, "
        f"{_rate(exchange):.0f}/s; seed {asked.seed}",
        flush=True,
    )
    for line in _faults(asked, exchange):
        print(f"{asked.cl}-bundlegen: {line}", file=sys.stderr)


def _figures(asked: Asked, exchange: Exchange) -> dict[str, Any]:
    ledger = exchange.ledger
    return {
        "cl": asked.cl,
        "kind": asked.kind,
        "seed": asked.seed,
        "asked": asked.gencount,
        "security": exchange.security,
        "sent": ledger.sent,
        "equal": ledger.equal,
        "lost": ledger.pending_count,
        "altered": ledger.altered_count,
        "surplus": ledger.surplus_count,
        "refused": exchange.sender.refused_count,
        "octets": ledger.sent_octets,
        "seconds": round(exchange.seconds, 6),
        "bundles_per_s": round(_rate(exchange), 1),
        "good": exchange.is_good,
        "faults": list(_faults(asked, exchange)),
    }


def _faults(asked: Asked, exchange: Exchange) -> Iterator[str]:
    ledger, sender = exchange.ledger, exchange.sender
    if ledger.pending_count:
        numbers = ", ".join(map(str, ledger.lost))
        more = " and more" if ledger.pending_count > len(ledger.lost) else ""
        yield f"{ledger.pending_count} bundles were lost: number {numbers}{more}"
    if ledger.altered_count:
        yield f"{ledger.altered_count} bundles were altered"
        yield from map(str, ledger.altered)
    if ledger.surplus_count:
        yield f"{ledger.surplus_count} bundles too many came"
        yield from map(str, ledger.surplus)
    for number, reason in sender.refusals:
        yield f"bundle {number} was refused: {reason}"
    if ledger.sent < asked.gencount:
        yield f"{asked.gencount - ledger.sent} bundles were not sent"
    if exchange.broken is not None:
        yield f"the session ended early: {exchange.broken}"


def _rate(exchange: Exchange) -> float:
    return exchange.ledger.came / exchange.seconds if exchange.seconds else 0.0


def _octets(count: float) -> str:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {_UNITS[unit]}"
