"""A packet router without I/O: what `tumpline router` decides."""

from tumpline.machines.packet_router.keys import CONTROL_PATTERNS
from tumpline.machines.packet_router.outputs import Bind, Cancel, Output, Subscribe, Unbind
from tumpline.machines.packet_router.router import PacketRouter, RouterConfig, share_names
from tumpline.machines.packet_router.topology import Topology, topology_of

__all__ = [
    "CONTROL_PATTERNS",
    "Bind",
    "Cancel",
    "Output",
    "PacketRouter",
    "RouterConfig",
    "Subscribe",
    "Topology",
    "Unbind",
    "share_names",
    "topology_of",
]
