"""All frames of one network interface: an AF_PACKET socket whose frames come through memory shared with the kernel.

A ring costs no system call a frame, says when each frame came (a reader that wakes late still knows), and keeps VLAN tags,
which the kernel takes out of frames before any socket sees them. Linux: Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

SIOCGIFMTU: Final = 0x8921
# linux/if_packet.h
SOL_PACKET: Final = 263
PACKET_ADD_MEMBERSHIP: Final = 1
PACKET_RX_RING: Final = 5
PACKET_STATISTICS: Final = 6
PACKET_VERSION: Final = 10
PACKET_IGNORE_OUTGOING: Final = 23
PACKET_MR_PROMISC: Final = 1
TPACKET_V2: Final = 1
STATUS_KERNEL: Final = 0
STATUS_USER: Final = 1 << 0
STATUS_NO_CHECKSUM: Final = 1 << 3
STATUS_VLAN: Final = 1 << 4
STATUS_TPID: Final = 1 << 6
ETH_P_ALL: Final = 3
ETH_P_8021Q: Final = 0x8100
# struct tpacket2_hdr: status, length, captured length, offset of the frame, of its payload, s, ns, VLAN tag, its type
_HEADER = struct.Struct("=IIIHHIIHH4x")
_TAG = struct.Struct("!HH")
_MACS_OCTETS: Final = 12  # the tag goes behind the two addresses

# 2048 frames of 1500 octets: 20 ms at 100,000 frames/s, in which a busy machine gives nobody else the processor.
RING_OCTETS: Final = 4 << 20
SLOTS_LEAST: Final = 256  # however long frames may be
SLOT_OVERHEAD_OCTETS: Final = 128  # headers of the kernel, of Ethernet, a VLAN tag, and room to align them
SEND_BUFFER_OCTETS: Final = 4 << 20
FRAMES_MOST: Final = 512  # in one call, so that other ports have their turn
# Frames that came within this time are handed over as having come together, when the last of them came.
TOGETHER_S: Final = 0.000_1
# A stamp further away is none: the clock was set, or the kernel left some other time there (when TCP meant to send).
STAMP_S: Final = 1.0


class Arrived(NamedTuple):
    """Frames that came together, and when (monotonic seconds)."""

    at: float
    frames: list[bytes]


@dataclass(slots=True)
class PortCounters:
    """What did not get through a port, in frames."""

    overrun: int = 0  # came faster than they were read
    no_checksum: int = 0  # an offload left the checksum to hardware that is not there; not carried
    truncated: int = 0  # longer than the interface's MTU when it was opened; not carried
    unsent: int = 0  # the interface would not take them: down, gone, or the frame is no frame
    last_error: str = ""


class PacketPort:
    """Owns the socket until `close`. Raises: OSError (no such interface, not permitted)."""

    def __init__(self, ifname: str, ring_octets: int = RING_OCTETS) -> None:
        self.ifname = ifname
        self.counts = PortCounters()
        self._at = 0
        self._last_at = 0.0
        # Protocol 0: nothing comes before the socket is bound to its one interface.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            self._slot, self._size = _geometry(self._socket, ifname, ring_octets)
            self._set_up()
        except BaseException:
            self._socket.close()
            raise

    def _set_up(self) -> None:
        sock = self._socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_OCTETS)
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        block = max(self._slot, 1 << 16)
        ring = struct.pack("IIII", block, self._size // block, self._slot, self._size // self._slot)
        sock.setsockopt(SOL_PACKET, PACKET_RX_RING, ring)
        self._ring = mmap.mmap(sock.fileno(), self._size)
        self._words = memoryview(self._ring).cast("I")
        promiscuous = struct.pack("iHH8x", socket.if_nametoindex(self.ifname), PACKET_MR_PROMISC, 0)
        sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, promiscuous)
        sock.bind((self.ifname, ETH_P_ALL))

    def fileno(self) -> int:
        """Readable when frames have come."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give back socket and ring."""
        self._words.release()
        self._ring.close()
        self._socket.close()

    def receive(self, now: float) -> list[Arrived]:
        """What has come, in order, at most FRAMES_MOST frames. `now` is monotonic; no time given back lies after it."""
        arrived: list[Arrived] = []
        frames: list[bytes] = []
        began = at = self._last_at
        realtime_ahead_s = time.time() - now
        for _ in range(FRAMES_MOST):
            if not self._words[self._at >> 2] & STATUS_USER:
                break
            came_at, frame = self._take(realtime_ahead_s)
            if not 0.0 <= now - came_at <= STAMP_S:
                came_at = now
            came_at = max(came_at, at)
            if came_at - began > TOGETHER_S and frames:
                arrived.append(Arrived(at, frames))
                frames = []
            if not frames:
                began = came_at
            at = came_at
            if frame is not None:
                frames.append(frame)
        if frames:
            arrived.append(Arrived(at, frames))
        self._last_at = at
        return arrived

    def _take(self, realtime_ahead_s: float) -> tuple[float, bytes | None]:
        """The next frame of the ring, whose place is given back."""
        here = self._at
        status, length, captured, offset, _, sec, nsec, tci, tpid = _HEADER.unpack_from(self._ring, here)
        frame: bytes | None = self._ring[here + offset : here + offset + captured]
        self._words[here >> 2] = STATUS_KERNEL
        self._at = (here + self._slot) % self._size
        if status & STATUS_NO_CHECKSUM:
            self.counts.no_checksum += 1
            frame = None
        elif captured < length:
            self.counts.truncated += 1
            frame = None
        elif status & STATUS_VLAN:
            assert frame is not None
            tag = _TAG.pack(tpid if status & STATUS_TPID else ETH_P_8021Q, tci)
            frame = frame[:_MACS_OCTETS] + tag + frame[_MACS_OCTETS:]
        return sec + nsec * 1e-9 - realtime_ahead_s, frame

    def send(self, frames: Iterable[bytes]) -> None:
        """Out of the interface, each as it is. What it will not take is counted, and lost, as on any wire."""
        send = self._socket.send
        for frame in frames:
            try:
                send(frame)
            except OSError as error:
                self.counts.unsent += 1
                self.counts.last_error = error.strerror or str(error)

    def look(self) -> PortCounters:
        """The counters, with what the kernel counted."""
        # Reading resets it: struct tpacket_stats {packets, drops}.
        _, drops = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.counts.overrun += drops
        return self.counts

    def clear_error(self) -> None:
        """An interface that went down leaves an error at the socket, which would wake its owner for ever."""
        if number := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.counts.last_error = os.strerror(number)


def _geometry(sock: socket.socket, ifname: str, ring_octets: int) -> tuple[int, int]:
    """Octets of a slot, large enough for any frame, and of the whole ring; both powers of two."""
    answer = fcntl.ioctl(sock, SIOCGIFMTU, struct.pack("16si20x", ifname.encode(), 0))
    mtu: int = struct.unpack("16si20x", answer)[1]
    slot = 1 << (mtu + SLOT_OVERHEAD_OCTETS - 1).bit_length()
    return slot, max(ring_octets, SLOTS_LEAST * slot)
