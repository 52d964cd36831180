"""The stream of messages of one D-Bus connection, both ways: octets and descriptors in, messages out, and back.

Descriptors are counted handles: whoever keeps one retains it, the last release closes it. They come with the first octet
of their message, and leave so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.contract import Handle
from tumpline.wire.dbus import FIRST_OCTETS, Buffer, Message, decode_message_untrusted, encode_head, message_octets
from tumpline.wire.dbus.message import FDS_MOST

# Bodies from here on stay in the one buffer they were gathered in; shorter ones are cut out as octets of their own.
LONG_OCTETS: Final = 65_536
PIECES_MOST: Final = 64  # in one write; IOV_MAX of Linux is 1024


class Received(NamedTuple):
    """A whole message. The receiver of this value releases the descriptors."""

    message: Message
    fds: tuple[Handle, ...]


class MessageStream:
    """Cuts a stream into messages. Memory: what has come of one message, however long it claims to be."""

    __slots__ = ("_fds", "_partial", "octets_most")

    def __init__(self, octets_most: int) -> None:
        self.octets_most = octets_most  # of one message
        self._partial = bytearray()
        self._fds: deque[Handle] = deque()

    def receive(self, data: memoryview, fds: Iterable[Handle]) -> list[Received]:
        """The messages that are whole now. No view of `data` is kept; `fds` are ours. Raises: MalformedError."""
        self._fds.extend(fds)
        found: list[Received] = []
        at = 0
        try:
            while at < len(data):
                at = self._take(data, at, found)
            self._check_fds()
        except MalformedError:
            release([fd for received in found for fd in received.fds])
            raise
        return found

    @property
    def octets(self) -> int:
        """What has come of a message that is not whole."""
        return len(self._partial)

    @property
    def missing(self) -> int:
        """What is still to come of a message whose length is known."""
        return self._length(self._partial) - len(self._partial) if len(self._partial) >= FIRST_OCTETS else 0

    def discard(self) -> None:
        """The stream has ended: descriptors without a message are released."""
        release(self._fds)
        self._fds.clear()
        self._partial = bytearray()

    def _take(self, data: memoryview, at: int, found: list[Received]) -> int:
        """Take one message, or what there is of it; where the next begins."""
        if not self._partial and len(data) - at >= FIRST_OCTETS:
            end = at + self._length(data[at : at + FIRST_OCTETS])
            if end <= len(data):
                found.append(self._whole(bytes(data[at:end])))
                return end
        wanted = FIRST_OCTETS if len(self._partial) < FIRST_OCTETS else self._length(self._partial)
        end = min(len(data), at + wanted - len(self._partial))
        self._partial += data[at:end]
        if len(self._partial) >= FIRST_OCTETS and len(self._partial) == self._length(self._partial):
            partial, self._partial = self._partial, bytearray()
            found.append(self._whole(memoryview(partial) if len(partial) >= LONG_OCTETS else bytes(partial)))
        return end

    def _length(self, first: bytearray | memoryview) -> int:
        octets = message_octets(first)
        if octets > self.octets_most:
            raise MalformedError(f"D-Bus message of {octets} octets, at most {self.octets_most} are taken here")
        return octets

    def _whole(self, data: Buffer) -> Received:
        message = decode_message_untrusted(data)
        if message.unix_fds > len(self._fds):
            raise MalformedError(f"D-Bus message with {message.unix_fds} descriptors, {len(self._fds)} have come")
        return Received(message, tuple([self._fds.popleft() for _ in range(message.unix_fds)]))

    def _check_fds(self) -> None:
        # They come with the first octet of their message: only one that is not whole yet may have some.
        if len(self._fds) > (FDS_MOST if self._partial else 0):
            raise MalformedError(f"{len(self._fds)} descriptors have come without a message that names them")


class _Piece(NamedTuple):
    octets: Buffer
    fds: tuple[Handle, ...]  # to leave with the first octet


class Outbox:
    """What is to be written, in order. Bounded: who reads too slowly is to be let go."""

    __slots__ = ("_pieces", "fds", "octets", "octets_most")

    def __init__(self, octets_most: int) -> None:
        self.octets_most = octets_most
        self.octets = 0
        self.fds = 0
        self._pieces: deque[_Piece] = deque()

    def put_message(self, message: Message, fds: Sequence[Handle] = ()) -> bool:
        """Queue a message; its descriptors are retained until they are sent. False: the reader is too slow, nothing is
        queued. Raises: MalformedError: it breaks a rule."""
        head = encode_head(message._replace(unix_fds=len(fds)))
        return self.put_pieces(head, message.body, fds)

    def put_pieces(self, head: Buffer, body: Buffer = b"", fds: Sequence[Handle] = ()) -> bool:
        """The same with octets that are known already."""
        octets = len(head) + len(body)
        if self.octets and self.octets + octets > self.octets_most:  # an empty queue takes any one message
            return False
        for fd in fds:
            fd.retain()
        self.octets += octets
        self.fds += len(fds)
        self._pieces.append(_Piece(head, tuple(fds)))
        if body:
            self._pieces.append(_Piece(body, ()))
        return True

    def front(self) -> tuple[list[Buffer], tuple[Handle, ...]]:
        """What one write takes: pieces, and the descriptors that leave with the first octet of the first."""
        if not self._pieces:
            return [], ()
        found = [self._pieces[0].octets]
        for piece in islice(self._pieces, 1, PIECES_MOST):
            if piece.fds:
                break
            found.append(piece.octets)
        return found, self._pieces[0].fds

    def sent(self, octets: int) -> None:
        """So many octets of the front were written."""
        self.octets -= octets
        while octets:
            piece = self._pieces.popleft()
            self.fds -= len(piece.fds)
            release(piece.fds)
            if octets < len(piece.octets):
                self._pieces.appendleft(_Piece(memoryview(piece.octets)[octets:], ()))
                return
            octets -= len(piece.octets)

    def clear(self) -> None:
        """Nothing can be written any more."""
        for piece in self._pieces:
            release(piece.fds)
        self._pieces.clear()
        self.octets = self.fds = 0


def release(fds: Iterable[Handle]) -> None:
    """Let go of descriptors."""
    for fd in fds:
        fd.release()
