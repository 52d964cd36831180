"""A packet router without I/O: what `tumpline router` decides."""

from tumpline.machines.packet_router.keys import CONTROL_PATTERNS, packet_patterns
from tumpline.machines.packet_router.outputs import Bind, Cancel, Disagreed, Output, Subscribe, Unbind
from tumpline.machines.packet_router.router import SHARDS_MOST, PacketRouter, RouterConfig, share_names
from tumpline.machines.packet_router.sources import STRANGERS as STRANGERS_SHARE
from tumpline.machines.packet_router.topology import Topology, topology_of

__all__ = [
    "CONTROL_PATTERNS",
    "SHARDS_MOST",
    "STRANGERS_SHARE",
    "Bind",
    "Cancel",
    "Disagreed",
    "Output",
    "PacketRouter",
    "RouterConfig",
    "Subscribe",
    "Topology",
    "Unbind",
    "packet_patterns",
    "share_names",
    "topology_of",
]
