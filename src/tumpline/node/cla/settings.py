"""What a TCPCL agent is told: the link, the bus, and how much it may hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from tumpline.drivers.links._tcpcl4_config import Tcpcl4Config
from tumpline.machines.tcpcl4.config import SessionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpclAgentSettings:
    """One agent. `link.listen` and `link.connect` are what it does at the start."""

    link: Tcpcl4Config = field(default_factory=Tcpcl4Config)
    node_id: str = ""  # "" keeps it from peers
    stop_on_close: bool = False  # end with the last connection
    hold_received: bool = False  # nothing is taken unless somebody on the bus answers for it (recv_bundle_hold)
    bus_address: str = "session"  # "session", "system", or any D-Bus address
    bus_service: str = ""  # the name to own on the bus; "": none
    spool_directory: Path | None = None  # of received bundles until they are taken
    spool_octets_most: int = 64 << 30
    memory_octets_most: int = 64 << 20  # of small received bundles, and as much again of those to be sent

    def of_session(self, config: SessionConfig) -> SessionConfig:
        """What a session is told, here where the link's configuration has no word for it."""
        return replace(
            config,
            node_id=self.node_id,
            first_transfer_id=1,  # the older agent's; so the wire has the numbers that the bus has
            idle_s=self.link.idle_s,  # also of sessions that we opened
        )
