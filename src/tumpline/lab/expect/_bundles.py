"""Bundles between the agents of a laboratory that is up."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any

from tumpline.drivers.payload import PIECE_OCTETS
from tumpline.lab.agent_config import node_id
from tumpline.lab.expect._api import Arrivals
from tumpline.lab.model import LabFile
from tumpline.node.client import Client, Endpoint, connect
from tumpline.node.services import _numbered
from tumpline.wire.eid import IPN, Eid

if TYPE_CHECKING:
    from tumpline.lab.api import Lab

_ECHO_SERVICE = "7"  # of the echo service where node IDs are numbers
# Far from the numbers of services; RFC 9758 §5.6 leaves them to whoever wants one.
_FREE_SERVICES = range(1 << 20, 1 << 21)
_LIFETIME_S = 3600.0


def endpoint_of(lab: LabFile, to: str, demux: str) -> str:
    """An endpoint as it is, or that service of a node."""
    if ":" in to:
        return to
    eid = Eid.parse(node_id(lab, to))
    return str(eid.with_demux(_ECHO_SERVICE if eid.scheme == IPN else demux))


class Agents:
    """The scene that real agents make."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @property
    def file(self) -> LabFile:
        return self.lab.file

    def ping(self, sender: str, to: str, count: int, interval_s: float, wait_s: float) -> list[float]:
        """See Scene."""
        asked = {"to": to, "count": count, "interval_s": interval_s, "timeout_s": wait_s}
        with self.lab.client(sender) as agent:
            events = list(agent.stream("/v1/ping", asked))
        return [event["rtt_ms"] for event in events if event["event"] == "reply" and not event["duplicate"]]

    def transfer(self, sender: str, receiver: str, count: int, size: int, wait_s: float) -> Arrivals:
        """See Scene."""
        try:
            return asyncio.run(self._transfer(sender, receiver, count, size, wait_s))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _transfer(self, sender: str, receiver: str, count: int, size: int, wait_s: float) -> Arrivals:
        eid = Eid.parse(node_id(self.file, receiver))
        # An endpoint of its own: what is still under way of an earlier expectation does not count.
        demux = str(secrets.choice(_FREE_SERVICES)) if eid.scheme == IPN else f"lab-{secrets.token_hex(4)}"
        asked = {"to": str(eid.with_demux(demux)), "count": count, "size": size, "lifetime_s": _LIFETIME_S}
        async with (
            connect(self.lab.socket(receiver)) as there,
            connect(self.lab.socket(sender)) as here,
            there.endpoint(demux) as endpoint,
            asyncio.TaskGroup() as group,
        ):
            sending = group.create_task(_send(here, asked), name="source")
            found = await _arrivals(endpoint, count, size, wait_s)
            sending.cancel()
            return found


async def _send(agent: Client, asked: dict[str, Any]) -> None:
    async for _ in agent.stream("/v1/source", asked):
        pass


async def _arrivals(endpoint: Endpoint, count: int, size: int, wait_s: float) -> Arrivals:
    began = time.monotonic()
    times: list[float] = []
    numbers: set[int] = set()
    try:
        async with asyncio.timeout(wait_s):
            while len(times) < count:
                adu = await anext(endpoint)
                times.append(time.monotonic() - began)
                if (number := _number(adu.payload, size)) is not None:
                    numbers.add(number)
                await endpoint.done(adu.seq, confirm=False)
    except (TimeoutError, StopAsyncIteration):
        pass  # what came until now is told
    return Arrivals(len(times), min(times, default=None), max(times, default=None), len(times) - len(numbers))


def _number(payload: bytes, size: int) -> int | None:
    """None: these are not the octets that were sent."""
    view = memoryview(payload)
    pieces = [view[begin : begin + PIECE_OCTETS] for begin in range(0, len(view), PIECE_OCTETS)]
    found = _numbered.parse(pieces)
    return found[1] if found is not None and len(payload) == size else None


def way_of(lab: Lab, sender: str, receiver: str, wait_s: float, awaited: list[str]) -> list[str]:
    """The nodes that say by status reports that a bundle came to them, in the order in which it did; the sender first.
    Returns when all of those awaited have told, or the time is over."""
    asked = {"to": endpoint_of(lab.file, receiver, "echo"), "timeout_s": wait_s}
    names = {node_id(lab.file, name): name for name, node in lab.file.nodes.items() if node.agent is not None}
    came: dict[str, tuple[int, float]] = {}
    with lab.client(sender, timeout_s=None) as agent:
        for event in agent.stream("/v1/trace", asked):
            if event["event"] == "reported" and "received" in event["did"]:
                node = str(event["node"])
                came.setdefault(names.get(node, node), (event["time_ms"] or 0, event["after_ms"]))
            if set(awaited[1:]) <= came.keys():
                break
    return [sender, *sorted((name for name in came if name != sender), key=came.__getitem__)]
