"""Neighbours that the older agents would find by themselves, written down: the file tells who they are.

There, `zeroconf` finds those that offer themselves on the same net and sends everything to them; `sand` (before 2025
`nmp`) tells all of one's neighbours to all, so that each node knows ways of several hops. Here, discovery is not there yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from tumpline.lab.older.shape import OlderFile
from tumpline.node.config.problems import Problems


class FoundRoute(NamedTuple):
    """`node` sends to `via` what is for `target`, or what matches `pattern`."""

    node: str
    via: str
    target: str
    pattern: str = ""


class Found(NamedTuple):
    """What discovery would end with."""

    sessions: list[tuple[str, str]]  # who dials whom
    routes: list[FoundRoute]


def discovered(older: OlderFile, remarks: Problems) -> Found:
    """Of all applications that discover."""
    offers = list(_offers(older, remarks))
    adjacent = _adjacent(older, remarks)
    sessions = offers + [(name, other) for name, others in adjacent.items() for other in others]
    routes = [FoundRoute(name, other, other, "*:**") for name, other in offers]
    return Found(sessions, routes + [route for name in adjacent for route in _ways(name, adjacent)])


def _offers(older: OlderFile, remarks: Problems) -> Iterator[tuple[str, str]]:
    for name, node in older.nodes.items():
        if not node.config.app("zeroconf", "enumerate"):
            continue
        found = [
            other
            for other, section in older.nodes.items()
            if other != name and section.config.app("zeroconf", "offer") and set(section.nets) & set(node.nets)
        ]
        words = f"its neighbours are taken from this file: {', '.join(found) or 'nobody offers itself'}"
        remarks.add(("nodes", name, "config", "apps", "zeroconf"), f"discovery is not there yet; {words}")
        yield from ((name, other) for other in found)


def _adjacent(older: OlderFile, remarks: Problems) -> dict[str, list[str]]:
    """For each node with SAND its neighbours that have it too, in order of the file."""
    members = [
        name
        for name, node in older.nodes.items()
        if node.config.app("sand", "enable") or node.config.app("nmp", "enable")
    ]
    for name in members:
        app = "sand" if "sand" in older.nodes[name].config.apps else "nmp"
        words = "neighbours and shortest ways are taken from this file"
        remarks.add(("nodes", name, "config", "apps", app), f"discovery is not there yet; {words}")
    return {
        name: [
            other
            for other in members
            if other != name
            and set(older.nodes[name].nets) & set(older.nodes[other].nets)
            and (older.nodes[name].config.tcpcl_listen or older.nodes[other].config.tcpcl_listen)
        ]
        for name in members
    }


def _ways(start: str, adjacent: dict[str, list[str]]) -> Iterator[FoundRoute]:
    """Shortest ways from one node to all that are not its neighbours, by breadth first."""
    first: dict[str, str] = {start: ""} | {other: other for other in adjacent[start]}
    waiting = deque(adjacent[start])
    while waiting:
        name = waiting.popleft()
        for other in adjacent[name]:
            if other not in first:
                first[other] = first[name]
                waiting.append(other)
                yield FoundRoute(start, first[name], other)
