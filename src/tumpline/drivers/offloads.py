"""Makes an interface hand over packets as they would cross a wire: `python -m tumpline.drivers.offloads IFNAME ...`

A virtual interface passes on 64 KiB at once without checksums, because nobody will look. Where a link is to lose single
packets, or carry them at a rate, somebody looks. Both ends of a veth pair need it, each in its own namespace.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
from array import array

SIOCETHTOOL = 0x8946
# linux/ethtool.h: set receive and transmit checksums, scatter-gather, segmentation (TCP, UDP, any), coalescing.
_SET = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "ufo": 0x22, "gso": 0x24, "gro": 0x2C}


def turn_off_offloads(ifname: str, sock: socket.socket | None = None) -> None:
    """Of an interface in the namespace of this socket (any kind), or of the caller. Raises: OSError."""
    if sock is None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            turn_off_offloads(ifname, own)
        return
    for name, command in _SET.items():
        value = array("I", [command, 0])  # struct ethtool_value
        request = struct.pack("16sP8x", ifname.encode(), value.buffer_info()[0])  # struct ifreq
        try:
            fcntl.ioctl(sock, SIOCETHTOOL, request)
        except OSError as error:
            # What an interface cannot do is off already.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise OSError(error.errno, error.strerror, f"{ifname} ({name})") from None


if __name__ == "__main__":
    for each in sys.argv[1:]:
        turn_off_offloads(each)
