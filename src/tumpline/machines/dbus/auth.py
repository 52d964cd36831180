"""Before the messages: who is who, in lines (D-Bus specification, "Authentication Protocol"). Mechanism EXTERNAL only.

The kernel has told a server who its peer is; the peer asks to be taken as just that user.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from tumpline.errors import MalformedError, RemoteProtocolError
from tumpline.wire.dbus import (
    AuthLine,
    Command,
    decode_auth_line_untrusted,
    decode_identity_untrusted,
    encode_auth_line,
    encode_identity,
)
from tumpline.wire.dbus.auth import FIRST_OCTET, LINE_END, LINE_OCTETS_MOST

MECHANISM: Final = "EXTERNAL"
LINES_MOST: Final = 32  # a conversation has four; one that goes on for ever leads nowhere


class Lines:
    """Cuts a stream into lines, a bounded number of bounded length."""

    __slots__ = ("_count", "_partial")

    def __init__(self) -> None:
        self._partial = bytearray()
        self._count = 0

    def feed(self, data: memoryview) -> None:
        """Octets came."""
        self._partial += data

    def next(self) -> AuthLine | None:
        """The next whole line. Raises: MalformedError, RemoteProtocolError."""
        end = self._partial.find(LINE_END, 0, LINE_OCTETS_MOST + len(LINE_END))
        if end < 0:
            if len(self._partial) > LINE_OCTETS_MOST + len(LINE_END):
                raise MalformedError(f"a line of D-Bus authentication has more than {LINE_OCTETS_MOST} octets")
            return None
        line = bytes(self._partial[:end])
        del self._partial[: end + len(LINE_END)]
        self._count += 1
        if self._count > LINES_MOST:
            raise RemoteProtocolError(f"D-Bus authentication has not come to an end in {LINES_MOST} lines")
        return decode_auth_line_untrusted(line)

    def first_octet(self) -> bool:
        """Take the very first octet, if it has come. Raises: MalformedError: it is not NUL."""
        if self._partial and self._partial[:1] != FIRST_OCTET:
            raise MalformedError("a D-Bus client begins with NUL, this one does not")
        came = bool(self._partial)
        del self._partial[:1]
        return came

    def rest(self) -> bytes:
        """What came behind the last line."""
        rest = bytes(self._partial)
        self._partial.clear()
        return rest


class _Client(Enum):
    OK_AWAITED = "waiting to be accepted"
    DATA_SENT = "waiting to be accepted after an empty answer"
    FDS_AWAITED = "waiting for descriptors to be agreed on"
    DONE = "done"


class ClientAuth:
    """The client's side. Octets to send come back from each call; `is_done`: messages follow."""

    def __init__(self, uid: int) -> None:
        self.is_done = False
        self.passes_fds = False
        self.guid = ""
        self.lines = Lines()
        self._uid = uid
        self._state = _Client.OK_AWAITED

    def begin(self) -> bytes:
        """The first octets of the connection."""
        return FIRST_OCTET + encode_auth_line(Command.AUTH, MECHANISM, encode_identity(str(self._uid)))

    def receive(self, data: memoryview) -> bytes:
        """Octets came; what is to be sent. Raises: MalformedError, RemoteProtocolError."""
        self.lines.feed(data)
        out = b""
        while not self.is_done and (line := self.lines.next()) is not None:
            out += self._answer(line)
        return out

    def _answer(self, line: AuthLine) -> bytes:
        awaiting = self._state is not _Client.FDS_AWAITED
        if awaiting and line.command is Command.OK:
            self.guid = line.rest.strip()
            self._state = _Client.FDS_AWAITED
            return encode_auth_line(Command.NEGOTIATE_UNIX_FD)
        if awaiting and line.command is Command.DATA and self._state is _Client.OK_AWAITED:
            self._state = _Client.DATA_SENT  # some servers ask for the rest of what was said already: there is none
            return encode_auth_line(Command.DATA)
        if not awaiting and line.command in (Command.AGREE_UNIX_FD, Command.ERROR):
            self.passes_fds = line.command is Command.AGREE_UNIX_FD
            self._state, self.is_done = _Client.DONE, True
            return encode_auth_line(Command.BEGIN)
        if line.command is Command.REJECTED:
            raise RemoteProtocolError(f"the bus does not take user {self._uid} (it offers: {line.rest or 'nothing'})")
        raise RemoteProtocolError(f"the bus answered {line.command.value} {line.rest[:60]!r} while {self._state.value}")


class _Server(Enum):
    FIRST = "waiting for the first octet"
    AUTH = "waiting for AUTH"
    DATA = "waiting for DATA"
    BEGIN = "waiting for BEGIN"


class ServerAuth:
    """The server's side, for a peer of whom the kernel says which user it is."""

    def __init__(self, guid: str, peer_uid: int) -> None:
        self.is_done = False
        self.passes_fds = False
        self.lines = Lines()
        self._guid = guid
        self._uid = str(peer_uid)
        self._state = _Server.FIRST
        self._handlers: dict[_Server, Callable[[AuthLine], bytes]] = {
            _Server.AUTH: self._on_auth,
            _Server.DATA: self._on_data,
            _Server.BEGIN: self._on_begin,
        }

    def receive(self, data: memoryview) -> bytes:
        """Octets came; what is to be sent. Raises: MalformedError, RemoteProtocolError."""
        self.lines.feed(data)
        if self._state is _Server.FIRST and self.lines.first_octet():
            self._state = _Server.AUTH
        out = b""
        while self._state is not _Server.FIRST and not self.is_done and (line := self.lines.next()) is not None:
            out += self._handlers[self._state](line)
        return out

    def _on_auth(self, line: AuthLine) -> bytes:
        if line.command is Command.AUTH:
            mechanism, _, identity = line.rest.partition(" ")
            if mechanism != MECHANISM:
                return self._rejected()
            if identity:
                return self._judged(identity)
            self._state = _Server.DATA
            return encode_auth_line(Command.DATA)
        if line.command is Command.BEGIN:  # Authentication Protocol: "BEGIN ... disconnect"
            raise RemoteProtocolError("the client began without saying who it is")
        return self._rejected() if line.command is Command.ERROR else _unexpected()

    def _on_data(self, line: AuthLine) -> bytes:
        if line.command is Command.DATA:
            return self._judged(line.rest)
        self._state = _Server.AUTH
        return self._on_auth(line) if line.command is Command.BEGIN else self._rejected()

    def _judged(self, identity: str) -> bytes:
        # An empty identity asks to be taken as whoever the kernel says.
        if identity and decode_identity_untrusted(identity) != self._uid:
            return self._rejected()
        self._state = _Server.BEGIN
        return encode_auth_line(Command.OK, self._guid)

    def _on_begin(self, line: AuthLine) -> bytes:
        if line.command is Command.BEGIN:
            self.is_done = True
            return b""
        if line.command is Command.NEGOTIATE_UNIX_FD:
            self.passes_fds = True
            return encode_auth_line(Command.AGREE_UNIX_FD)
        return self._rejected() if line.command in (Command.CANCEL, Command.ERROR) else _unexpected()

    def _rejected(self) -> bytes:
        self._state = _Server.AUTH
        return encode_auth_line(Command.REJECTED, MECHANISM)


def _unexpected() -> bytes:
    return encode_auth_line(Command.ERROR, '"that is not expected here"')
