"""`tumpline ping|trace`: does it get there, which way, how fast?"""

from __future__ import annotations

from typing import Any

from tumpline.errors import NoAnswerError
from tumpline.ui.cli.agent import connected
from tumpline.ui.cli.common import DEFAULT, Common, Seconds
from tumpline.ui.cli.output import Output, duration, table

_DEFAULT_WAIT_S = 10.0


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
    asked = {"to": to, "count": count, "interval_s": interval, "size": size, "timeout_s": common.timeout or _DEFAULT_WAIT_S}
    times: list[float] = []
    async with connected(common) as agent:
        async for event in agent.stream("/v1/ping", asked):
            if "rtt_ms" in event:
                times.append(event["rtt_ms"])
            output.event(event, _ping_lines(event))
    return 0 if times else NoAnswerError.exit_code


def _ping_lines(event: dict[str, Any]) -> list[str]:
    if "rtt_ms" in event:
        return [f"{event.get('octets', event.get('size', '?'))} octets from {event.get('from', '?')}: "
                f"seq={event.get('sequence')} time={event['rtt_ms']:.3g} ms"]
    return [f"{event.get('event', '?')}: {', '.join(f'{k}={v}' for k, v in event.items() if k != 'event')}"]


async def trace(to: str, /, *, common: Common = DEFAULT) -> int:
    """Show which nodes a bundle passes (they must be willing to send status reports).

    Parameters
    ----------
    to
        EID to trace to.
    """
    output = Output(common)
    arrived = False
    async with connected(common) as agent:
        async for event in agent.stream("/v1/trace", {"to": to, "timeout_s": common.timeout or _DEFAULT_WAIT_S}):
            arrived = arrived or event.get("event") == "delivered"
            output.event(event, str(event))
    return 0 if arrived else NoAnswerError.exit_code


__all__ = ["duration", "ping", "table", "trace"]
