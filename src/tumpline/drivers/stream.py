"""A connected TCP socket that its owner drives: non-blocking, read straight into buffers, written from many pieces.

No asyncio transport lies between: bodies are received into the store's own memory and sent from files by the kernel.
With TLS the same file descriptor is wrapped; the owner sees no difference but in speed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

from tumpline.errors import StorageError

BLOCKED = -1  # nothing could be read or written now
READ_OCTETS = 256 * 1024  # one read: enough for ~2000 small bundles, small enough to stay in the cache
# Written at once: read from files into a room that stays in the cache. Measured, 1 MiB payloads: sendfile costs two to
# three times as much CPU (it hands pages over one by one), a mapping would end the process if the file were cut.
STAGE_OCTETS = 256 * 1024
PIECES_MOST = 64  # of memory, in one call; IOV_MAX of Linux is 1024


class FileSlice(NamedTuple):
    """Octets to be sent out of a file."""

    fd: int
    offset: int
    length: int


Piece = bytes | memoryview | FileSlice


def new_buffer(octets: int) -> memoryview:
    """Scratch room that all streams of one loop may share: nothing stays in it between two calls."""
    return memoryview(bytearray(octets))


class Stream:
    """Owns a connected socket until `close` or `abort`. Calls back `readable` and `writable` while watched."""

    def __init__(
        self,
        sock: socket.socket,
        readable: Callable[[], None],
        writable: Callable[[], None],
        scratch: memoryview,
    ) -> None:
        sock.setblocking(False)
        # One write leaves for each batch, at once: no waiting for more (Nagle with delayed ACK costs 40 ms).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._tls: ssl.SSLSocket | None = None
        self._readable = readable
        self._writable = writable
        self._watching_reads = False
        self._watching_writes = False
        self._scratch = scratch
        self._queue: deque[Piece] = deque()

    # ---- readiness ---------------------------------------------------------------------------------------------------

    def watch_reads(self, on: bool) -> None:
        """Ask for (or give up) `readable` calls."""
        if on is self._watching_reads or self.closed():
            return
        self._watching_reads = on
        if on:
            self._loop.add_reader(self._fd, self._readable)
        else:
            self._loop.remove_reader(self._fd)

    def watch_writes(self, on: bool) -> None:
        """Ask for (or give up) `writable` calls."""
        if on is self._watching_writes or self.closed():
            return
        self._watching_writes = on
        if on:
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._loop.remove_writer(self._fd)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def read_into(self, view: memoryview) -> int:
        """Octets put into `view`; 0 at the end of the stream, BLOCKED if there are none yet. Raises: OSError."""
        if self._tls is not None:
            return self._read_records(self._tls, view)
        try:
            return self._sock.recv_into(view)
        except (BlockingIOError, InterruptedError):
            return BLOCKED

    def _read_records(self, tls: ssl.SSLSocket, view: memoryview) -> int:
        """TLS gives one record (16 KiB) a call: fill the view, so that the owner's work is done once for many."""
        filled = 0
        while filled < len(view):
            try:
                count = tls.recv_into(view[filled:])
            except ssl.SSLWantReadError:
                return filled or BLOCKED
            except ssl.SSLWantWriteError:  # a key update must be answered first
                self.watch_writes(True)
                return filled or BLOCKED
            if count == 0:
                return filled  # the end is met again by the next call
            filled += count
        return filled

    def holds_octets(self) -> bool:
        """Whether octets wait above the kernel (a TLS record read in part), of which no `readable` will tell."""
        return self._tls is not None and self._tls.pending() > 0

    # ---- writing -----------------------------------------------------------------------------------------------------

    def drained(self) -> bool:
        """Whether all that was queued has been given to the kernel."""
        return not self._queue

    def queue(self, pieces: Sequence[Piece]) -> None:
        """Put pieces at the end of what is to be sent; `write` sends."""
        self._queue.extend(pieces)

    def write(self) -> bool:
        """Send what is queued. False: the socket takes no more for now, go on when `writable`.

        Raises: OSError (the connection), StorageError (a file)."""
        while self._queue:
            if self._tls is not None:
                staged = self._stage()
                wanted, sent = len(staged), _send_records(self._tls, staged)
            else:
                wanted, sent = self._send()
            if not wanted:  # an empty piece: no call would ever take it
                self._queue.popleft()
            self._drop(sent)
            if sent < wanted:
                return False
        return True

    def _send(self) -> tuple[int, int]:
        """Octets that the kernel was offered in one call, and those that it took."""
        octets = self._in_memory()
        if not octets:
            octets = [self._stage()]
        wanted = sum(map(len, octets))
        try:
            return wanted, self._sock.sendmsg(octets)
        except (BlockingIOError, InterruptedError):
            return wanted, 0

    def _in_memory(self) -> list[bytes | memoryview]:
        """The pieces at the front of the queue that lie in memory; none if that is too little for a call of its own."""
        found: list[bytes | memoryview] = []
        octets = 0
        for piece in islice(self._queue, PIECES_MOST):
            if isinstance(piece, FileSlice):
                return found if octets >= STAGE_OCTETS // 2 else []
            found.append(piece)
            octets += len(piece)
        return found

    def _stage(self) -> memoryview:
        """The next octets of the queue in one run that is worth a call; they stay in the queue.

        After a call that took nothing the same octets come again, as TLS demands: it has sealed a record of them."""
        first = self._queue[0]
        if not isinstance(first, FileSlice) and (len(self._queue) == 1 or len(first) >= STAGE_OCTETS // 2):
            return memoryview(first)
        filled = 0
        for piece in self._queue:
            filled += _copy(piece, self._scratch[filled:STAGE_OCTETS])
            if filled == STAGE_OCTETS:
                break
        return self._scratch[:filled]

    def _drop(self, sent: int) -> None:
        """Take `sent` octets off the front of the queue."""
        queue = self._queue
        while sent:
            piece = queue.popleft()
            length = _length(piece)
            if sent < length:
                queue.appendleft(_rest(piece, sent))
                return
            sent -= length

    # ---- TLS ---------------------------------------------------------------------------------------------------------

    def start_tls(self, context: ssl.SSLContext, server_side: bool, server_name: str | None) -> None:
        """From here on everything is TLS; `handshake` makes it so. What was queued must have been written."""
        assert not self._queue, "plain octets would be sealed"
        self._tls = context.wrap_socket(
            self._sock,
            server_side=server_side,
            server_hostname=server_name,
            do_handshake_on_connect=False,
        )
        self._sock = self._tls  # the plain object gave up the descriptor; its number stays

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is done. Raises: OSError (ssl.SSLError among them)."""
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.watch_writes(False)
            return False
        except ssl.SSLWantWriteError:
            self.watch_writes(True)
            return False
        return True

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER) after the handshake, if it gave one."""
        return self._tls.getpeercert(True) if self._tls is not None else None

    @property
    def security(self) -> str:
        """For people: "TLSv1.3", or "none"."""
        return (self._tls.version() if self._tls is not None else None) or "none"

    # ---- ending ------------------------------------------------------------------------------------------------------

    def closed(self) -> bool:
        """Whether the descriptor was given back."""
        return self._fd < 0

    def send_closure_alert(self) -> None:
        """Tell a TLS peer that nothing more comes (RFC 8446 §6.1); without TLS nothing."""
        if self._tls is not None:
            try:
                self._tls.unwrap()
            except (OSError, ValueError):
                pass  # the first call sends the alert; nobody waits for the answer

    def close(self) -> None:
        """Give the descriptor back; what the kernel was given is still sent. Idempotent."""
        if self.closed():
            return
        self.watch_reads(False)
        self.watch_writes(False)
        self._queue.clear()
        self._fd = -1
        self._sock.close()

    def end_writes(self) -> None:
        """Send FIN behind what was written; reading goes on. Raises: OSError."""
        # Of the TCP socket below: SSLSocket.shutdown would forget the TLS session.
        socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def abort(self) -> None:
        """Close with a reset: the peer learns at once that nothing more comes."""
        if not self.closed():
            # SO_LINGER on, 0 seconds: what is unsent is dropped, RST instead of FIN.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def _length(piece: Piece) -> int:
    return piece.length if isinstance(piece, FileSlice) else len(piece)


def _rest(piece: Piece, done: int) -> Piece:
    """The piece without its first `done` octets."""
    if isinstance(piece, FileSlice):
        return FileSlice(piece.fd, piece.offset + done, piece.length - done)
    return memoryview(piece)[done:]


def _copy(piece: Piece, room: memoryview) -> int:
    """Put the first octets of the piece into `room`, all that fit; how many. Raises: OSError, StorageError."""
    count = min(_length(piece), len(room))
    if not isinstance(piece, FileSlice):
        room[:count] = memoryview(piece)[:count]
    elif os.preadv(piece.fd, [room[:count]], piece.offset) != count:
        # A regular file gives all there is: this one was cut. The peer was promised a length it can never have.
        raise StorageError(
            f"a payload file ended before the length it was stored with ({piece.length} octets are missing)"
        )
    return count


def _send_records(tls: ssl.SSLSocket, octets: memoryview) -> int:
    """Octets taken. Each call seals one record of up to 16 KiB."""
    done = 0
    try:
        while done < len(octets):
            done += tls.send(octets[done:])
    except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
        pass  # the socket is full; `writable` will tell
    return done
