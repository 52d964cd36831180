"""Descriptors that cross a bus: counted, closed with the last release."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable

from tumpline.wire.dbus.message import FDS_MOST

# Room for as many as one sendmsg can pass (SCM_MAX_FD of Linux); what does not fit the kernel closes and says so.
ANCILLARY_OCTETS = socket.CMSG_SPACE(FDS_MOST * array.array("i").itemsize)


class Descriptor:
    """One open descriptor; made with one holder."""

    __slots__ = ("_holders", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._holders = 1

    def retain(self) -> None:
        """One more holder."""
        self._holders += 1

    def release(self) -> None:
        """One holder fewer; at none it is closed."""
        self._holders -= 1
        if not self._holders:
            os.close(self.fd)

    def take(self) -> int:
        """A descriptor of the caller's own, and one holder fewer here."""
        if self._holders == 1:
            self._holders = 0
            return self.fd
        own = os.dup(self.fd)
        self.release()
        return own


def duplicates(fds: Iterable[int]) -> list[Descriptor]:
    """Copies of descriptors that stay their owner's. Raises: OSError, none left open."""
    made: list[Descriptor] = []
    try:
        made.extend(Descriptor(os.dup(fd)) for fd in fds)
    except OSError:
        for each in made:
            each.release()
        raise
    return made


def received_descriptors(ancillary: Iterable[tuple[int, int, bytes]]) -> list[Descriptor]:
    """The descriptors that came with octets (unix(7), SCM_RIGHTS)."""
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return [Descriptor(fd) for fd in found]


def rights(fds: Iterable[Descriptor]) -> list[tuple[int, int, array.array[int]]]:
    """The ancillary data that passes descriptors; none for none."""
    passed = array.array("i", [each.fd for each in fds])
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)] if passed else []
