"""`tumpline status` and `tumpline peers`: what the agent holds and whom it knows."""

from __future__ import annotations

import asyncio
from typing import Any

from tumpline.ui.cli.agent import connected
from tumpline.ui.cli.common import DEFAULT, Common, Flag, Seconds
from tumpline.ui.cli.output import Output, duration, octets, table
from tumpline.ui.cli.reach import unreachable


async def status(*, watch: Flag = False, interval: Seconds = 1.0, common: Common = DEFAULT) -> int:
    """Show the agent: store, peers, links, counters.

    Parameters
    ----------
    watch
        Show it again and again until Ctrl-C (with --json: one object a line).
    interval
        How often, with --watch.
    """
    output = Output(common)
    async with connected(common) as agent:
        while True:
            value = await agent.get("/v1/status")
            if watch:
                output.redraw()
            output.event(value, _status(value, output))
            if not watch:
                return 0
            await asyncio.sleep(interval)


def _status(value: dict[str, Any], output: Output) -> list[str]:
    store = value.get("store", {})
    aliases = ", ".join(value.get("aliases", ()))
    quota = store.get("quota_octets")
    lines = [
        f"{value['node_id']}{f' ({aliases})' if aliases else ''}  up {duration(value.get('uptime_s'))}  "
        f"store {store.get('bundles', 0)} bundles / {octets(store.get('octets', 0))}"
        f"{f' of {octets(quota)}' if quota else ''}",
    ]
    lines += peer_lines(value.get("peers", []), output)
    lines += unreachable(value.get("links", []))
    waiting = [
        f"{name} {count}" for name, count in value.get("counters", {}).items() if count and isinstance(count, int)
    ]
    return lines + ([f"since start: {', '.join(waiting)}"] if waiting else [])


async def peers(*, common: Common = DEFAULT) -> int:
    """Show the neighbours: over which link, in which state, how secured, how much waits for them."""
    output = Output(common)
    async with connected(common) as agent:
        value = await agent.get("/v1/peers")
    output.result(value, peer_lines(value["peers"], output))
    return 0


def peer_lines(found: list[dict[str, Any]], output: Output) -> list[str]:
    """The table of neighbours."""
    rows = [_peer(peer) for peer in found]
    lines = table(("PEER", "LINK", "ADDRESS", "STATE", "SECURITY", "PROVED", "QUEUE"), rows)
    return [lines[0], *(output.styled(line, row[3]) for line, row in zip(lines[1:], rows, strict=True))]


def _peer(peer: dict[str, Any]) -> tuple[str, ...]:
    proved = {True: "yes", False: "no", None: "-"}[peer.get("authenticated")]
    shown = [peer.get(key) for key in ("id", "link", "address", "state", "security")]
    return (
        *("-" if cell in (None, "") else str(cell) for cell in shown),
        proved,
        str(peer.get("queue", peer.get("in_flight", "-"))),
    )
