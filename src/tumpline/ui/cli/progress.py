"""How far a transfer is: phase, octets, rate, time left. A bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tumpline.ui.cli.output import Output

if TYPE_CHECKING:
    import rich.progress

_PHASES = {"hash": "reading", "store": "storing"}


class Progress:
    """Shows the progress events of one transfer on stderr."""

    def __init__(self, output: Output, name: str, size: int | None) -> None:
        self._output = output
        self._name = name
        self._size = size
        self._bar: rich.progress.Progress | None = None
        self._phase: str | None = None
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Self:
        if self._output.is_live:
            self._bar = _bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Take one event of the transfer; each phase begins its bar anew."""
        if self._bar is None:
            return
        if event["event"] == "progress":
            self._begin(_PHASES.get(event["phase"], event["phase"]), event["total"])
            if self._task is not None:
                self._bar.update(self._task, completed=event["octets"])
        elif event["event"] == "stored":
            # From here on the network decides; there is no honest percentage.
            self._begin("waiting for the receipt", None)

    def _begin(self, phase: str, total: int | None) -> None:
        if self._bar is None or phase == self._phase:
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._phase = phase
        self._task = self._bar.add_task(f"{self._name}: {phase}", total=total)

    def pause(self, line: str) -> None:
        """A line for people, above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._output.note(line)


def _bar() -> rich.progress.Progress:
    import rich.console
    import rich.progress as rich_progress

    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(binary_units=True),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
        transient=True,
    )
