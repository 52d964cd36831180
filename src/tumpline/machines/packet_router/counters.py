"""What became of packets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Of packets; a sealed batch that is passed on unopened counts as one."""

    received: int = 0
    passed: int = 0  # written to somebody, once for each
    flooded: int = 0  # of those received: for all
    malformed: int = 0
    lossy: int = 0  # dropped because `routing.lossy.link.start` asked for it
    unreachable: int = 0  # nobody there, or nobody whom the topology lets hear it
    returned: int = 0  # the broker found no queue for them
    own: int = 0  # for the agent it came from
    refused: int = 0  # no room for one agent more
    unopened: int = 0  # sealed for us, and broken, repeated, or of a stranger
