"""What a TCPCL agent is told: the link, the bus, what to do at the start, and how much it may hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from tumpline.drivers.dial import Address
from tumpline.drivers.links._tcpcl4_config import Tcpcl4Config
from tumpline.machines.tcpcl4.authenticate import AuthenticationPolicy
from tumpline.machines.tcpcl4.config import SessionConfig

# The smallest segment that the size control goes down to; the older agent's.
SEGMENT_OCTETS_LEAST = 10_240


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpclAgentSettings:
    """One agent. Octets, seconds. `link.listen` and `link.connect` stay empty: see `init_listen`, `init_connect`."""

    link: Tcpcl4Config = field(default_factory=Tcpcl4Config)
    node_id: str = ""  # "" keeps it from peers
    authentication: AuthenticationPolicy | None = None  # None: what `link.tls.authenticate` says
    # Segments that we send: all of the first size; or, with a time, as large as makes their acknowledgement take so long.
    # Neither: the link's own control (RFC 9174 §3.6).
    segment_octets_first: int | None = None
    segment_ack_s: float | None = None
    init_listen: tuple[Address, ...] = ()
    init_connect: tuple[Address, ...] = ()
    stop_on_close: bool = False  # end with the last connection
    bus_address: str = "session"  # "session", "system", or any D-Bus address
    bus_service: str = ""  # the name to own on the bus; "": none
    spool_directory: Path | None = None  # of received bundles until they are taken
    spool_octets_most: int = 64 << 30
    memory_octets_most: int = 64 << 20  # of small received bundles, and as much again of those to be sent

    def of_session(self, config: SessionConfig) -> SessionConfig:
        """What a session is told, here where the link's configuration has no word for it."""
        config = replace(
            config,
            node_id=self.node_id,
            first_transfer_id=1,  # the older agent's; so the wire has the numbers that the bus has
            idle_s=self.link.idle_s,  # also of sessions that we opened
            authentication=self.authentication or config.authentication,
        )
        return self._with_segments(config)

    def _with_segments(self, config: SessionConfig) -> SessionConfig:
        first = self.segment_octets_first or config.segment_octets_first
        if self.segment_ack_s is not None:
            least = min(SEGMENT_OCTETS_LEAST, first)
            return replace(
                config, segment_octets_first=first, segment_octets_least=least, segment_ack_s=self.segment_ack_s
            )
        if self.segment_octets_first is not None:
            return replace(config, segment_octets_first=first, segment_octets_least=first, segment_octets_most=first)
        return config
