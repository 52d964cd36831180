"""`tumpline echo|source|sink`: an endpoint of the node, held by this command while it runs."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumpline.errors import NoAnswerError
from tumpline.ui.cli.agent import connected
from tumpline.ui.cli.common import DEFAULT, Common, Seconds
from tumpline.ui.cli.output import Output, octets

if TYPE_CHECKING:
    from tumpline.node.client import Client, Received

_MAX_SHOWN_OCTETS = 200
_ECHO_WAIT_S = 5.0  # for room in the store; an answer that comes later is of little use


async def echo(demux: str, /, *, common: Common = DEFAULT) -> int:
    """Send back what comes to an endpoint of this node, until Ctrl-C. (The agent's own echo service needs no command.)

    Parameters
    ----------
    demux
        The endpoint below the node ID.
    """
    output = Output(common)
    async with connected(common) as agent, agent.endpoint(demux) as endpoint:
        output.note(f"echoing at {endpoint.eid}")
        async for adu in endpoint:
            event = {"event": "echoed", "to": adu.source, "octets": len(adu.payload)}
            try:
                await agent.send_adu(adu.source, adu.payload, source=demux, wait_s=_ECHO_WAIT_S)
            except NoAnswerError as error:
                # What is echoed takes room itself: nodes that wait for it only after the answer may wait for ever.
                event["event"] = "dropped"
                output.note(f"no answer to {adu.source}: {error}")
            await endpoint.done(adu.seq)
            output.event(event, f"{octets(len(adu.payload))} to {adu.source}" if event["event"] == "echoed" else ())
    return 0


async def sink(
    demux: str,
    /,
    *,
    count: int | None = None,
    directory: Path | None = None,
    common: Common = DEFAULT,
) -> int:
    """Show what comes to an endpoint of this node, until Ctrl-C or --count.

    Parameters
    ----------
    demux
        The endpoint below the node ID.
    count
        End after so many ADUs.
    directory
        Write each ADU to a file of its own in this directory.
    """
    output = Output(common)
    taken = 0
    async with connected(common) as agent, agent.endpoint(demux) as endpoint:
        output.note(f"receiving at {endpoint.eid}")
        async for adu in endpoint:
            event = {"event": "received", "source": adu.source, "octets": len(adu.payload)}
            event["sha256"] = hashlib.sha256(adu.payload).hexdigest()
            if directory is not None:
                event["file"] = str(_keep(directory, adu))
            output.event(event, _adu_line(event, adu.payload))
            await endpoint.done(adu.seq, confirm=False)
            taken += 1
            if taken == count:
                break
        await endpoint.confirmed()
    return 0


def _keep(directory: Path, adu: Received) -> Path:
    path = directory / f"{adu.seq:010}.adu"
    directory.mkdir(parents=True, exist_ok=True)
    path.write_bytes(adu.payload)
    return path


def _adu_line(event: dict[str, Any], data: bytes) -> str:
    if "file" in event:
        return f"{octets(len(data))} from {event['source']}: {event['file']}"
    shown = data[:_MAX_SHOWN_OCTETS]
    try:
        return f"{octets(len(data))} from {event['source']}: {shown.decode()!r}"
    except UnicodeDecodeError:
        return f"{octets(len(data))} from {event['source']}: {shown.hex()}"


async def source(
    to: str,
    text: str | None = None,
    /,
    *,
    count: int | None = None,
    size: int = 100,
    rate: float = 0.0,
    lifetime: Seconds = 86400.0,
    common: Common = DEFAULT,
) -> int:
    """Send an ADU: TEXT, or what comes on standard input; or with --count many distinct ones, as fast as it goes.

    Parameters
    ----------
    to
        EID of the endpoint.
    text
        What to send.
    count
        Send so many distinct, numbered ADUs.
    size
        Octets of each, with --count.
    rate
        ADUs a second, with --count (default: as fast as it goes).
    lifetime
        How long they may be under way.
    """
    output = Output(common)
    async with connected(common) as agent:
        if count is not None:
            asked = {"to": to, "count": count, "size": size, "rate": rate, "lifetime_s": lifetime}
            return await _many(agent, output, {**asked, "wait_s": common.timeout})
        data = sys.stdin.buffer.read() if text is None else text.encode()
        bundle = await agent.send_adu(to, data, lifetime_s=lifetime, wait_s=common.timeout)
    output.result({"bundle": bundle, "octets": len(data)}, f"{bundle} is stored")
    return 0


async def _many(agent: Client, output: Output, asked: dict[str, Any]) -> int:
    summary: dict[str, Any] = {}
    async for event in agent.stream("/v1/source", asked):
        if output.json:
            output.event(event)
        elif event["event"] == "progress":
            output.note(f"{event['stored']} of {event['total']} stored, {event['bundles_per_s']:.0f} a second")
        elif event["event"] == "waiting":
            output.note(f"{event['stored']} of {event['total']} stored, waiting: {event['reason']}")
        summary = event
    if not output.json:
        told = f"{summary['stored']} ADUs, {octets(summary['octets'])}, are stored ({summary['bundles_per_s']:.0f} a second)"
        output.result(summary, told)
    return 0
