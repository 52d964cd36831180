"""A connected UNIX socket that carries D-Bus: octets with descriptors, both ways."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast
from weakref import WeakKeyDictionary

from tumpline.drivers.dbus.descriptors import ANCILLARY_OCTETS, Descriptor, received_descriptors, rights
from tumpline.machines.dbus import Outbox

# One read of a long message: stays in the processor's cache. Of short ones so many come at most that their work is done
# within some 20 ms, and others are served then.
READ_OCTETS: Final = 256 * 1024
SHORT_OCTETS: Final = 32 * 1024
READS_MOST: Final = 8  # in one wake-up, and no further one after this time
READS_S: Final = 0.005
WRITES_MOST: Final = 32
SOCKET_OCTETS: Final = (
    4 * 1024 * 1024
)  # asked of the kernel, which gives what it allows: fewer wake-ups for long messages

CLOSED: Final = "the other end closed the connection"

_scratch: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


def _scratch_room(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Room for one read, shared by all sockets of a loop: nothing stays in it between two calls."""
    room = _scratch.get(loop)
    if room is None:
        room = _scratch[loop] = memoryview(bytearray(READ_OCTETS))
    return room


class End(Protocol):
    """The machine at this end of the connection."""

    @property
    def outbox(self) -> Outbox:
        """What is to be written."""

    @property
    def missing(self) -> int:
        """Octets that are still to come of a message under way."""


class BusSocket:
    """Owns the socket until `close`. Calls `received` with what came and `broken`, once, with why there is no more."""

    def __init__(
        self,
        sock: socket.socket,
        end: End,
        received: Callable[[memoryview, list[Descriptor]], None],
        broken: Callable[[str], None],
        writable: Callable[[], None],
    ) -> None:
        """`writable` is called when more can be written than before; it is to call `flush`."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_OCTETS)
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._end = end
        self._received = received
        self._broken = broken
        self._writable = writable
        self._room = _scratch_room(self._loop)
        self._is_writing = False
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def is_closed(self) -> bool:
        """Whether the socket was given back."""
        return self._sock.fileno() < 0

    def flush(self) -> None:
        """Write what is queued, as far as the socket takes it; the rest goes when it takes more."""
        if self.is_closed:
            return
        try:
            blocked = not self._write()
        except OSError as error:
            self._give_up(_reason(error))
            return
        if blocked is not self._is_writing:
            self._is_writing = blocked
            if blocked:
                self._loop.add_writer(self._sock.fileno(), self._writable)
            else:
                self._loop.remove_writer(self._sock.fileno())

    def close(self) -> None:
        """Give the socket back; what was not written is let go. Idempotent."""
        if not self.is_closed:
            self._end.outbox.clear()
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()

    def _write(self) -> bool:
        """False: there is more to write, but not now. Raises: OSError."""
        outbox = self._end.outbox
        for _ in range(WRITES_MOST):
            pieces, fds = outbox.front()
            if not pieces:
                return True
            try:
                sent = self._sock.sendmsg(pieces, rights(cast("tuple[Descriptor, ...]", fds)) if fds else [])
            except (BlockingIOError, InterruptedError):
                return False
            outbox.sent(sent)
        return not outbox.octets

    def _readable(self) -> None:
        until = self._loop.time() + READS_S
        for _ in range(READS_MOST):
            if not self._read() or self.is_closed or self._loop.time() > until:
                return

    def _read(self) -> bool:
        """Read once; False: there is nothing more now."""
        room = self._room[: max(SHORT_OCTETS, self._end.missing)]
        try:
            octets, ancillary, flags, _ = self._sock.recvmsg_into([room], ANCILLARY_OCTETS, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._give_up(_reason(error))
            return False
        fds = received_descriptors(ancillary) if ancillary else []
        if flags & socket.MSG_CTRUNC or not octets:
            for fd in fds:
                fd.release()
            self._give_up("more descriptors came than can be taken" if octets else CLOSED)
            return False
        self._received(room[:octets], fds)
        return octets == len(room)  # less: the socket is empty, most likely

    def _give_up(self, text: str) -> None:
        if not self.is_closed:
            self.close()
            self._broken(text)


def _reason(error: OSError) -> str:
    # A UNIX socket that is closed before all was read says so by a reset (unix(7)).
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return CLOSED
    return f"the connection broke: {os.strerror(error.errno or 0).lower()}"
