"""Node IDs as people choose them, and the names of files that follow."""

from __future__ import annotations

import re

from tumpline.errors import ConfigError
from tumpline.wire.eid import Eid


def check_node_id(eid: Eid) -> None:
    """RFC 9171 §4.2.5.2: a node ID is the ID of an administrative endpoint. Raises: ConfigError."""
    if eid.is_null or eid.is_local:
        raise ConfigError(f"{eid} names no node that others can send to; write for example dtn://ground/ or ipn:12.0")
    if not eid.is_administrative:
        raise ConfigError(f"{eid} is an endpoint, not a node; write {eid.node}")


def file_name(node_id: str) -> str:
    """What to call files of a node: dtn://ground/ is ground, ipn:12.0 is ipn-12. Raises: MalformedError."""
    eid = Eid.parse(node_id)
    text = str(eid.ssp)[2:].partition("/")[0] if isinstance(eid.ssp, str) else f"ipn-{str(eid)[4:].rpartition('.')[0]}"
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".") or "node"
