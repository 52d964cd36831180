"""What a UDPCL agent is told: the endpoint, whom to poll, the bus, and how much it may hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tumpline.drivers.dial import Address
from tumpline.drivers.links._udpcl_config import UdpclConfig


class Poll(NamedTuple):
    """Tell somebody at this interval that we take datagrams. `local`: where to tell it from."""

    to: Address
    interval_s: float = 60.0
    local: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpclAgentSettings:
    """One agent. `link.listen` (with the groups of `link.multicast`) and `polls` are what it does at the start."""

    link: UdpclConfig = field(default_factory=UdpclConfig)
    node_id: str = ""  # "" keeps it from peers
    polls: tuple[Poll, ...] = ()
    default_to: str = ""  # where bundles go whose parameters name no address; "": such are refused
    default_port: int = 4556
    bus_address: str = "session"  # "session", "system", or any D-Bus address
    bus_service: str = ""  # the name to own on the bus; "": none
    spool_directory: Path | None = None  # of large received bundles until they are taken
    spool_octets_most: int = 64 << 30
    memory_octets_most: int = 64 << 20  # of small received bundles, and as much again of those to be sent
