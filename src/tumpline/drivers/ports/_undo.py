"""Takes back what a port did to this machine, whenever the port's process ends: `python -m tumpline.drivers.ports._undo`.

Standard input takes steps, one JSON array a line; when it ends, all of them are undone, the last one first. So there is one
way back, whether the port was stopped or its process killed. What is gone meanwhile was undone by somebody else.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from tumpline.drivers.ports._netlink import Netlink


def undo(steps: Sequence[Sequence[Any]]) -> None:
    """Each as `Guard` writes them."""
    with Netlink() as netlink:
        for what, *how in reversed(steps):
            with contextlib.suppress(OSError):
                if what == "address":
                    netlink.remove_address(how[0], ip_interface(how[1]))
                elif what == "route":
                    netlink.remove_route(how[0], ip_network(how[1]), how[2])
                elif what == "key":
                    Path(how[0]).write_text(how[1])
                else:
                    raise ValueError(f"step {what!r}")


def main() -> None:
    """What ends the port's process group shall not end this one before its work is done."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print(flush=True)  # deaf to signals from here on
    undo([json.loads(line) for line in sys.stdin])


if __name__ == "__main__":
    main()
