"""Configuration of the dbus_cl link."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tumpline.machines.dbus_cl.core import Config
from tumpline.wire.dbus import is_bus_name

PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
Octets = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
# What our udpcl-agents take unless told otherwise. Nobody acknowledges datagrams: the longer a bundle, the likelier that a part
# of it is missing.
UDPCL_OCTETS = 8 << 20
TCPCL_OCTETS = 1 << 40


class DbusClConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A convergence-layer agent on D-Bus, ours or the older one, used as a link."""

    cl: Literal["tcpcl", "udpcl"]
    """Which agent: tcpcl (sessions are paths) or udpcl (addresses of [[peers]] are)."""
    service: str
    """The agent's name on the bus."""
    bus: str = "session"
    """"session", "system", "embedded", or an address such as "unix:path=/run/example/bus"."""
    connect: str | list[str] = msgspec.field(default_factory=list)
    """Peers that the agent is asked to hold a session with (tcpcl), or whose address is a path (udpcl)."""
    authenticate: Literal["node", "none"] = "node"
    """What counts of what peers claim: a node ID that the agent has seen proved by a certificate, or any claim. A route leads
    only to those that count."""
    transfer_mru: Octets = 0
    """Longest bundle to hand over, in octets. Default: 1 TiB over tcpcl, 8 MiB over udpcl."""
    spool: str = ""
    """Directory for large bundles on their way between agent and node. Default: $TMPDIR, else /var/tmp."""
    stall_s: PositiveSeconds = 120.0
    """A contact that has bundles to send and gives no sign of life for so long is closed."""
    retry_s_first: PositiveSeconds = 0.25
    """Seconds before what failed (the bus, a session) is tried again; doubles with each failure."""
    retry_s_max: PositiveSeconds = 30.0
    """The longest time between two attempts."""

    def __post_init__(self) -> None:
        problems = []
        if not is_bus_name(self.service):
            problems.append('service: no name on a bus; write the agent\'s, such as "org.ietf.dtn.node.tcpcl"')
        if self.retry_s_first > self.retry_s_max:
            problems.append("retry_s_first: longer than retry_s_max; write a smaller one")
        if problems:
            raise ValueError("; ".join(problems))  # msgspec adds where it stands


def machine_config(config: DbusClConfig, link: str) -> Config:
    """What the machine is told."""
    most = UDPCL_OCTETS if config.cl == "udpcl" else TCPCL_OCTETS
    return Config(
        link=link,
        trusting=config.authenticate == "none",
        mru_octets=config.transfer_mru or most,
        stall_s=config.stall_s,
        retry_s_first=config.retry_s_first,
        retry_s_max=config.retry_s_max,
    )
