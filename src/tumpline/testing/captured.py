"""A command in a network namespace of its own, whose loopback is captured, in packets no longer than an Ethernet's.

tshark dissects some 500 layers of a packet and no more: of a hundred small bundles in one packet of 64 KiB, the last ones stay
unseen, and with them the thread. (`captured` starts this module as a program in the namespace.)
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tumpline.testing.tshark import Capture

ETHERNET_OCTETS, LOOPBACK_OCTETS = 1500, 65_536  # the longest packets: of a wire, of loopback as it is
HANG_S = 120.0


def captured(
    path: Path, port: int, command: Sequence[str], environment: Mapping[str, str], mtu_octets: int = ETHERNET_OCTETS
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; the capture of what went over this port is in `path` then."""
    inside = [sys.executable, "-m", "tumpline.testing.captured", str(path), str(port), str(mtu_octets), *command]
    return subprocess.run(
        ["unshare", "--map-root-user", "--net", *inside],
        capture_output=True,
        text=True,
        env=dict(environment),
        timeout=HANG_S,
        check=False,
    )


def main() -> int:
    """Inside. Returns: the command's exit code."""
    path, port, mtu_octets, *command = sys.argv[1:]
    subprocess.run(["ip", "link", "set", "lo", "mtu", mtu_octets, "up"], check=True)
    subprocess.run([sys.executable, "-m", "tumpline.drivers.offloads", "lo"], check=True)
    # Loopback's checksums cannot be turned off, and while there are some, a run of datagrams goes as one packet.
    subprocess.run(["ethtool", "-K", "lo", "tx-udp-segmentation", "off"], check=True)
    with Capture(Path(path), int(port)):
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
