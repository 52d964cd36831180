"""Frames of a net as pcapng: dumpcap or tcpdump in the switch, where the net's bridge is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tumpline.errors import TumplineError
from tumpline.lab.holder import environment
from tumpline.lab.links import bridge_of
from tumpline.node.registry import did_you_mean

if TYPE_CHECKING:
    from tumpline.lab.api import Lab


def capture_command(lab: Lab, net: str, duration_s: float | None = None) -> list[str]:
    """What to run in the switch: it writes to standard output until it is interrupted. Raises: TumplineError."""
    if net not in lab.file.nets:
        raise TumplineError(f"there is no net {net!r}; {did_you_mean(net, lab.file.nets)}")
    path = environment()["PATH"]
    if shutil.which("dumpcap", path=path) is not None:
        until = [] if duration_s is None else ["-a", f"duration:{duration_s:g}"]
        return ["dumpcap", "-q", "-i", bridge_of(net), *until, "-w", "-"]
    if shutil.which("tcpdump", path=path) is not None:
        until = [] if duration_s is None else ["timeout", "-s", "INT", f"{duration_s:g}"]
        # Packet by packet, and without changing to a user that this namespace may not know.
        return [*until, "tcpdump", "-U", "-Z", "root", "-i", bridge_of(net), "-w", "-"]
    raise TumplineError("a capture needs dumpcap or tcpdump; install: apt-get install wireshark-common")
