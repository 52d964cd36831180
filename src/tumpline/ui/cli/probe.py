"""`tumpline ping|trace`: does it get there, which way, how fast?"""

from __future__ import annotations

from typing import Any

from tumpline.errors import NoAnswerError
from tumpline.ui.cli.agent import connected
from tumpline.ui.cli.common import DEFAULT, Common, Seconds
from tumpline.ui.cli.output import Output
from tumpline.ui.cli.reach import why_waiting
from tumpline.wire.eid import IPN, Eid

_DEFAULT_WAIT_S = 10.0
_ECHO_DEMUX, _ECHO_SERVICE = "echo", "7"  # as the echo service registers itself


async def ping(
    to: str,
    /,
    *,
    count: int = 4,
    interval: Seconds = 1.0,
    size: int = 64,
    common: Common = DEFAULT,
) -> int:
    """Send bundles to an echo endpoint and time what comes back. Exits 3 if nothing does.

    Parameters
    ----------
    to
        EID of a node (its echo service is meant) or of an echo endpoint.
    count
        How many bundles.
    interval
        Between two of them.
    size
        Octets of each payload.
    """
    output = Output(common)
    wait_s = _DEFAULT_WAIT_S if common.timeout is None else common.timeout
    asked = {"to": echo_endpoint(to), "count": count, "interval_s": interval, "size": size, "timeout_s": wait_s}
    code = NoAnswerError.exit_code
    async with connected(common) as agent:
        async for event in agent.stream("/v1/ping", asked):
            if event["event"] == "waiting" and not output.json:
                output.note(f"waiting: {event['reason']}")
            else:
                output.event(event, _ping_lines(event))
            code = event.get("exit_code", code)
        if code == NoAnswerError.exit_code:
            output.error(f"tumpline: no answer from {asked['to']} within {wait_s:g} s")
            for line in await why_waiting(agent):
                output.error(line)
    return code


def echo_endpoint(to: str) -> str:
    """A node ID stands for its echo endpoint."""
    eid = Eid.parse(to)
    if not eid.is_administrative:
        return to
    return str(eid.with_demux(_ECHO_SERVICE if eid.scheme == IPN else _ECHO_DEMUX))


def _ping_lines(event: dict[str, Any]) -> list[str]:
    if event["event"] == "reply":
        again = " (duplicate)" if event["duplicate"] else ""
        return [
            f"{event['octets']} octets from {event['source']}: number={event['number']} time={event['rtt_ms']:.3g} ms{again}"
        ]
    if event["event"] == "summary":
        return _summary_lines(event)
    return []


def _summary_lines(event: dict[str, Any]) -> list[str]:
    lines = [f"--- {event['to']} ---", f"{event['sent']} sent, {event['received']} received, {event['loss']:.0%} lost"]
    if event["received"]:
        times = "/".join(f"{event[key]:.3g}" for key in ("min_ms", "avg_ms", "median_ms", "max_ms"))
        lines.append(f"round trip min/avg/median/max = {times} ms")
    return lines


async def trace(to: str, /, *, common: Common = DEFAULT) -> int:
    """Show which nodes a bundle passes. Only nodes that are configured to send status reports are seen; exits 3 if
    nobody says in time that it arrived.

    Parameters
    ----------
    to
        EID to trace to, best a node's (its echo endpoint is meant) or an echo endpoint.
    """
    output = Output(common)
    wait_s = _DEFAULT_WAIT_S if common.timeout is None else common.timeout
    code = NoAnswerError.exit_code
    async with connected(common) as agent:
        async for event in agent.stream("/v1/trace", {"to": echo_endpoint(to), "timeout_s": wait_s}):
            output.event(event, _trace_lines(event))
            code = event.get("exit_code", code)
    return code


def _trace_lines(event: dict[str, Any]) -> list[str]:
    if event["event"] == "reported":
        reason = f" (reason {event['reason']})" if event["reason"] else ""
        return [f"{event['after_ms']:8.1f} ms  {event['node']}  {', '.join(event['did'])}{reason}"]
    if event["event"] == "delivered":
        return [f"{event['after_ms']:8.1f} ms  {event['by']}  answered: it arrived"]
    if event["event"] == "summary" and not event["delivered"]:
        return [f"nobody said that it arrived ({event['reports']} reports)"]
    return []
