"""What `tumpline router` says while it runs, and shows of those that run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tumpline.node.collector import set_aside
from tumpline.ui.cli.detach import told_ready
from tumpline.ui.cli.output import Output, duration, octets, table
from tumpline.ui.cli.tunnel_telling import sentence_of

if TYPE_CHECKING:
    from tumpline.node.overlay.router import RouterProgram

# Shown in this order, and only what is not zero.
_LOSSES = ("malformed", "lossy", "unreachable", "returned", "own", "refused", "unopened")
_NO_ROOM = ("agents_refused", "handover_dropped", "impaired_refused")


class Teller:
    """Turns events into lines."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._last = ""

    def ready(self, program: RouterProgram) -> None:
        """It is up."""
        shown = program.snapshot()
        plan = f" by {shown['topology']}" if shown["topology"] else ""
        line = f"{shown['name']} routes{plan} in the session {shown['session']['url']}"
        told_ready(line)
        self._output.event({"event": "ready", **shown}, line)
        set_aside()

    def tell(self, event: Any) -> None:
        """Something happened."""
        value, text = sentence_of(event)
        if self._output.json:
            self._output.event(value)
        elif text and text != self._last:
            self._last = text
            self._output.note(text)


def status_lines(routers: Sequence[Mapping[str, Any]], output: Output) -> list[str]:
    """One router after the other."""
    lines: list[str] = []
    for router in routers:
        lines += ["", *_router(router, output)] if lines else _router(router, output)
    return lines


def _router(router: Mapping[str, Any], output: Output) -> list[str]:
    session, counters = router["session"], router["counters"]
    state = "up" if session["joined"] else "down"
    line = f"{router['name']}  {session['url']}  {state} {duration(router['uptime_s'])}  process {router['pid']}"
    passed = f"  passed on {counters['passed']} of {counters['received']} packets, {counters['flooded']} of them to all"
    losses = ", ".join(
        f"{name.replace('_', ' ')} {counters[name]}" for name in (*_LOSSES, *_NO_ROOM) if counters.get(name)
    )
    return [
        output.styled(line, state),
        f"{passed}; not passed on: {losses}" if losses else passed,
        *_fellows(router),
        *_agents(router),
    ]


def _fellows(router: Mapping[str, Any]) -> Iterator[str]:
    if router["routers"]:
        shares = len(router["shares_fed"])
        yield f"  with {', '.join(router['routers'])}; this one has {shares} share{'' if shares == 1 else 's'}"


def _agents(router: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            agent["name"],
            agent["format"],
            ", ".join(agent["addresses"]) or None,
            f"{agent['packets_in']} / {octets(agent['octets_in'])}",
            f"{agent['packets_out']} / {octets(agent['octets_out'])}",
        )
        for agent in router["agents"]
    ]
    return [f"  {line}" for line in table(("AGENT", "FORMAT", "ADDRESSES", "FROM IT", "TO IT"), rows)] if rows else []
