"""A packet router without I/O: what `tumpline router` decides."""

from tumpline.machines.packet_router.directory import Facts, Prefix
from tumpline.machines.packet_router.keys import CONTROL_PATTERNS
from tumpline.machines.packet_router.outputs import Bind, Cancel, Noted, Output, Publish, Subscribe, Unbind
from tumpline.machines.packet_router.router import PacketRouter, RouterConfig, share_names
from tumpline.machines.packet_router.topology import Topology, topology_of

__all__ = [
    "CONTROL_PATTERNS",
    "Bind",
    "Cancel",
    "Facts",
    "Noted",
    "Output",
    "PacketRouter",
    "Prefix",
    "Publish",
    "RouterConfig",
    "Subscribe",
    "Topology",
    "Unbind",
    "share_names",
    "topology_of",
]
