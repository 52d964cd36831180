"""Makes interfaces hand over packets as they would cross a wire: `python -m tumpline.drivers.offloads [PID/]IFNAME ...`

A virtual interface passes on 64 KiB at once without checksums, because nobody will look. Where a link is to lose single
packets, or carry them at a rate, somebody looks. Every interface from which packets reach such a link needs this: of a veth
pair both ends. PID is a process in the network namespace of an interface that is not in the caller's.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
from array import array
from typing import Final

SIOCETHTOOL: Final = 0x8946
CLONE_NEWNET: Final = 0x40000000
# linux/ethtool.h: set receive and transmit checksums, scatter-gather, segmentation (TCP, UDP, any), coalescing.
_SET: Final = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "ufo": 0x22, "gso": 0x24, "gro": 0x2C}


def turn_off_offloads(ifname: str) -> None:
    """Of an interface in the caller's network namespace. Raises: OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name, command in _SET.items():
            value = array("I", [command, 0])  # struct ethtool_value
            request = struct.pack("16sP8x", ifname.encode(), value.buffer_info()[0])  # struct ifreq
            try:
                fcntl.ioctl(sock, SIOCETHTOOL, request)
            except OSError as error:
                # What an interface cannot do is off already.
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise OSError(error.errno, error.strerror, f"{ifname} ({name})") from None


def enter_network_of(pid: int) -> None:
    """The calling thread goes over into the network namespace of a process. Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    with open(f"/proc/{pid}/ns/net", "rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), f"/proc/{pid}/ns/net")


def main(interfaces: list[str]) -> None:
    """Those of the caller's namespace first: there is no way back."""
    for each in sorted(interfaces, key=lambda name: "/" in name):
        pid, _, ifname = each.rpartition("/")
        if pid:
            enter_network_of(int(pid))
        turn_off_offloads(ifname)


if __name__ == "__main__":
    main(sys.argv[1:])
